"""Rules that several targets need."""
