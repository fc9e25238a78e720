"""The report to look at: one self-contained HTML page about an export."""
