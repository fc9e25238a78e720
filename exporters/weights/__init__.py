"""Where weights come from, one at a time."""
