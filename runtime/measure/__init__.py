"""Measures what a bundle costs: load and run times, memory, bytes read; and shows it."""
