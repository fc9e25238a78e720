"""TinyChart: chart understanding with a vision tower that merges tokens."""

from tm_export.models.tinychart.presets import MODELS

__all__ = ["MODELS"]
