"""Counts that are known though they look as if they followed from data."""
