"""What an export finds out while it runs, and how it tells."""
