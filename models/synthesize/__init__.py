"""Checkpoints with the published keys, shapes and dtypes, and random values."""
