"""`tm-export`, the command."""
