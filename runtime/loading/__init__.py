"""Loads and runs a component's blocks inside a memory budget."""
