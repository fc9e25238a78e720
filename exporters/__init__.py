"""The exporters package."""
