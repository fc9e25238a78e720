"""Checkpoints: opened, checked and written, a tensor at a time."""
