"""What a model states of itself, and where it is listed."""
