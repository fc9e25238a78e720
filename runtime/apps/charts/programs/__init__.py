"""From what a chart model writes to an answer: TinyChart's programs, run without running Python (arXiv 2404.16635)."""
