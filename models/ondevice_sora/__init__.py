"""On-device Sora: text to video with the STDiT3 denoiser and temporal token merging."""

from tm_export.models.ondevice_sora.presets import MODELS

__all__ = ["MODELS"]
