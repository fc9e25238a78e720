"""A bundle: how a compiled model becomes a folder, and how that is opened again."""
