"""On-device Sora in the registry: the published size, and a tiny one with the same code."""

from functools import partial

import torch
from torch import Tensor

from tm_export.models.checkpoint import load_weights
from tm_export.models.ondevice_sora.config import DenoiserConfig, Variant
from tm_export.models.ondevice_sora.denoiser import Denoiser
from tm_export.models.registry import ComponentSpec, ModelSpec, WeightsOrigin
from tm_export.models.seeding import seeded

FULL = DenoiserConfig()
TINY = DenoiserConfig(
    depth=4,
    hidden_size=96,
    num_heads=4,
    caption_channels=64,
    max_text_tokens=16,
    text_tokens=16,
    frames=6,
    height=16,
    width=16,
    pixel_height=128,
    pixel_width=128,
)
TINY_SEED = 0


def build_denoiser(config: DenoiserConfig, variant: Variant) -> Denoiser:
    """Return the denoiser in evaluation mode, its weights as PyTorch initialises them."""
    return Denoiser(config, variant).eval()


def denoiser_inputs(config: DenoiserConfig, seed: int) -> tuple[Tensor, ...]:
    """Return inputs of `Denoiser.forward` for a prompt and the empty one, two thirds of the text real."""
    generator = torch.Generator().manual_seed(seed)
    size = (2, config.in_channels, config.frames, config.height, config.width)
    text = (2, 1, config.text_tokens, config.caption_channels)
    mask = torch.zeros(1, config.text_tokens)
    mask[:, : max(1, 2 * config.text_tokens // 3)] = 1
    return (
        torch.randn(size, generator=generator),
        torch.full((2,), 691.0),
        torch.randn(text, generator=generator),
        mask,
        torch.full((1,), 24.0),
    )


def _component(config: DenoiserConfig, weights: WeightsOrigin, seed: int | None) -> ComponentSpec:
    builders = {name: partial(build_denoiser, config, name) for name in ("full", "merged")}
    if seed is not None:
        builders = {name: partial(seeded, build, seed) for name, build in builders.items()}
    return ComponentSpec(
        name="denoiser",
        variants=builders,
        example_inputs=partial(denoiser_inputs, config),
        input_names=("x", "timestep", "y", "mask", "fps"),
        output_names=("prediction",),
        weights=weights,
        load_weights=load_weights,
    )


MODELS = (
    ModelSpec(
        name="ondevice-sora",
        description="Text to video on a phone: STDiT3 with temporal token merging, 256 px, 68 frames",
        components=(_component(FULL, "checkpoint", None),),
    ),
    ModelSpec(
        name="ondevice-sora-tiny",
        description="The same architecture with about a million parameters",
        components=(_component(TINY, "seeded", TINY_SEED),),
    ),
)
