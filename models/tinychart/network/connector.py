"""TinyChart's connector: visual features to the channels of the language model.

Checkpoint mPLUG/TinyChart-3B-768 has it under `model.mm_projector.` with the keys of this module.
"""

from torch import Tensor, nn

from tm_export.models.tinychart.config import LanguageModelConfig


class Connector(nn.Sequential):
    """Two projections with a GELU between them, by the error function and not by tanh: "mlp2x_gelu"."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__(
            nn.Linear(config.visual_size, config.hidden_size),
            nn.GELU(),
            nn.Linear(config.hidden_size, config.hidden_size),
        )

    def forward(self, features_BNV: Tensor) -> Tensor:
        """Return [B, N, C] for the vision tower's features [B, N, V]."""
        for layer in self:
            features_BNV = layer(features_BNV)
        return features_BNV
