"""The merges of a program: recognised, however they are written, and what they move and save."""
