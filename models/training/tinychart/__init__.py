"""How `tinychart-tiny` was trained."""
