"""The models that can be exported by name, their merging operators, and their checkpoints."""
