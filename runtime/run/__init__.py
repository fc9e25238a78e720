"""Run components of a bundle on inputs that are given, or on its golden ones."""
