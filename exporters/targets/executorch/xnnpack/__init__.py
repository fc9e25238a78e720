"""XNNPACK's delegate."""
