"""One folder for each target, with all that is particular to it."""
