"""Merge rates while training: mostly the one that is exported, at times a lower one.

So the same weights can be asked with merging on and off, and what merging costs is measured with nothing else changed.

Legend: B pictures, n merged tokens, C channels.
"""

from dataclasses import replace
from typing import Final

import torch
from torch import Tensor
from torch.func import functional_call

from tm_export.models.merging.bipartite import Match
from tm_export.models.tinychart.network.vision_tower import VisionTower
from tm_export.models.tinychart.tiny.sizes import VISION_TOWER
from tm_export.models.training.tinychart.dataset import chance

LOWER_RATES: Final = (0, 6, 12)
LOWER_SHARE: Final = 0.25
"""Of the batches, that have one of them."""


def random_rate(generator: torch.Generator) -> int:
    """Return how many tokens each layer is to merge away."""
    rng = chance(generator)
    return rng.choice(LOWER_RATES) if rng.random() < LOWER_SHARE else VISION_TOWER.tome_r


def tokens_at(rate: int) -> int:
    """Return how many tokens a picture becomes."""
    return replace(VISION_TOWER, tome_r=rate).tokens_out


def features_at(tower: VisionTower, rate: int, pixels_BCHW: Tensor) -> tuple[Tensor, list[Match]]:
    """Return what a tower with these weights and another rate gives: features [B, n, C], and each layer's match."""
    with torch.device("meta"):
        other = VisionTower(replace(tower.config, tome_r=rate)).vision_model
    weights: dict[str, Tensor] = dict(tower.vision_model.named_parameters())
    found: tuple[Tensor, list[Match]] = functional_call(other, weights, (pixels_BCHW,), strict=True)
    return found
