"""TinyChart in the registry: the published size, and a tiny one with the same code."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from tm_export.models.checkpoint import Weights
from tm_export.models.registry import ComponentSpec, ModelSpec, PublishedCheckpoint, WeightsOrigin
from tm_export.models.seeding import seeded
from tm_export.models.tinychart.config import VisionTowerConfig

if TYPE_CHECKING:
    from tm_export.models.tinychart.vision_tower import VisionTower

FULL = VisionTowerConfig()
TINY = VisionTowerConfig(hidden_size=128, intermediate_size=384, num_layers=6, num_heads=4, image_size=224, tome_r=28)
TINY_SEED = 0
PUBLISHED = PublishedCheckpoint("mPLUG/TinyChart-3B-768-siglip", folder="", dtype=torch.float16)


def build_vision_tower(config: VisionTowerConfig) -> VisionTower:
    """Return the tower in evaluation mode, its weights as PyTorch initialises them."""
    # transformers takes seconds to import, which listing the registry's models should not.
    from tm_export.models.tinychart.vision_tower import VisionTower

    return VisionTower(config).eval()


def open_tower_weights(module: nn.Module, path: Path) -> Weights:
    """Open a checkpoint for a module of `build_vision_tower`; see `open_vision_tower`."""
    from tm_export.models.tinychart.weights import open_vision_tower

    return open_vision_tower(cast("VisionTower", module), path)


def vision_tower_inputs(config: VisionTowerConfig, seed: int) -> tuple[Tensor, ...]:
    """Return one image of noise [1, 3, H, W] in −1..1, smooth enough that its patches differ in kind."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 2 * torch.rand(1, 3, config.side // 2, config.side // 2, generator=generator) - 1
    size = (config.image_size, config.image_size)
    return (nn.functional.interpolate(coarse, size=size, mode="bilinear"),)


def _component(config: VisionTowerConfig, weights: WeightsOrigin, seed: int | None) -> ComponentSpec:
    configs = {"full": replace(config, tome_r=0), "merged": config}
    builders = {name: partial(build_vision_tower, variant) for name, variant in configs.items()}
    if seed is not None:
        builders = {name: partial(seeded, build, seed) for name, build in builders.items()}
    return ComponentSpec(
        name="vision_tower",
        variants=builders,
        example_inputs=partial(vision_tower_inputs, config),
        input_names=("pixels",),
        output_names=("features",),
        weights=weights,
        open_weights=open_tower_weights,
        published=PUBLISHED,
    )


MODELS = (
    ModelSpec(
        name="tinychart-3b",
        description="Chart understanding at 768 px: SigLIP that merges 2916 patches into 732 tokens",
        components=(_component(FULL, "checkpoint", None),),
    ),
    ModelSpec(
        name="tinychart-tiny",
        description="The same architecture with about a million parameters, at 224 px",
        components=(_component(TINY, "seeded", TINY_SEED),),
    ),
)
