"""Layers that several models have."""
