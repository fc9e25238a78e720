"""The networks of TinyChart as components: builders, example inputs, published checkpoints.

All take their weights from a checkpoint, where they have any; a preset may bring them instead.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import torch
from torch import Tensor, nn

from tm_export.models.checkpoints.checkpoint import Weights
from tm_export.models.spec.registry import ComponentSpec, PublishedCheckpoint
from tm_export.models.tinychart.config import LanguageModelConfig, VisionTowerConfig
from tm_export.models.tinychart.network.connector import Connector
from tm_export.models.tinychart.network.image_preprocess import ImagePreprocess
from tm_export.models.tinychart.network.sampling import Sampling

if TYPE_CHECKING:
    from tm_export.models.tinychart.network.language_model import LanguageModel
    from tm_export.models.tinychart.network.vision_tower import VisionTower

SIGLIP: Final = PublishedCheckpoint("mPLUG/TinyChart-3B-768-siglip", folder="vision_tower", dtype=torch.float16)
LLM: Final = PublishedCheckpoint("mPLUG/TinyChart-3B-768", folder="llm", dtype=torch.float32)
CONNECTOR_PREFIX: Final = "model.mm_projector."


def build_image_preprocess(image_size: int) -> ImagePreprocess:
    """Return the graph that pads, resizes and scales a picture."""
    return ImagePreprocess(image_size).eval()


def build_vision_tower(config: VisionTowerConfig) -> VisionTower:
    """Return the tower in evaluation mode, its weights as PyTorch initialises them."""
    # transformers takes seconds to import, which listing the registry's models should not.
    from tm_export.models.tinychart.network.vision_tower import VisionTower

    return VisionTower(config).eval()


def build_connector(config: LanguageModelConfig) -> Connector:
    """Return the connector in evaluation mode, its weights as PyTorch initialises them."""
    return Connector(config).eval()


def build_llm(config: LanguageModelConfig) -> LanguageModel:
    """Return the language model in evaluation mode, its weights as PyTorch initialises them."""
    from tm_export.models.tinychart.network.language_model import LanguageModel

    return LanguageModel(config).eval()


def open_tower_weights(module: nn.Module, path: Path) -> Weights:
    """Open a checkpoint for a module of `build_vision_tower`; see `open_vision_tower`."""
    from tm_export.models.tinychart.weights import open_vision_tower

    return open_vision_tower(cast("VisionTower", module), path)


def open_connector_weights(module: nn.Module, path: Path) -> Weights:
    """Open a checkpoint for a module of `build_connector`; see `open_connector`."""
    from tm_export.models.tinychart.weights import open_connector

    return open_connector(cast("Connector", module), path)


def open_llm_weights(module: nn.Module, path: Path) -> Weights:
    """Open a checkpoint for a module of `build_llm`; see `open_language_model`."""
    from tm_export.models.tinychart.weights import open_language_model

    return open_language_model(cast("LanguageModel", module), path)


def image_preprocess_inputs(canvas: int, seed: int) -> tuple[Tensor, ...]:
    """Return a canvas of coarse noise [1, S, S, 3], of which a wide picture takes a part."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(256, (1, 3, canvas // 8, canvas // 8), generator=generator).float()
    pixels = nn.functional.interpolate(coarse, size=(canvas, canvas), mode="nearest").to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous(), torch.tensor([canvas // 2]), torch.tensor([3 * canvas // 4])


def vision_tower_inputs(config: VisionTowerConfig, seed: int) -> tuple[Tensor, ...]:
    """Return one image of noise [1, 3, H, W] in −1..1, smooth enough that its patches differ in kind."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 2 * torch.rand(1, 3, config.side // 2, config.side // 2, generator=generator) - 1
    size = (config.image_size, config.image_size)
    return (nn.functional.interpolate(coarse, size=size, mode="bilinear"),)


def connector_inputs(config: LanguageModelConfig, seed: int) -> tuple[Tensor, ...]:
    """Return features [1, N, V] of one picture."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(1, config.visual_tokens, config.visual_size, generator=generator),)


def llm_inputs(config: LanguageModelConfig, tokens: int, seed: int) -> tuple[Tensor, ...]:
    """Return inputs of `LanguageModel.forward` for so many tokens, every second one visual, after half a cache."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(config.vocab_size, (1, tokens), generator=generator)
    places = torch.arange(tokens)[None] % config.visual_tokens
    places[:, ::2] = -1
    visual = torch.randn(1, config.visual_tokens, config.hidden_size, generator=generator)
    shape = (1, config.num_heads, config.max_tokens, config.head_size)
    caches = (torch.randn(shape, generator=generator) for _ in range(2 * config.num_layers))
    cached = min(config.max_tokens // 2, config.max_tokens - tokens)
    return ids, places, visual, torch.tensor([cached]), torch.tensor([tokens - 1]), *caches


def sampling_inputs(config: LanguageModelConfig, seed: int) -> tuple[Tensor, ...]:
    """Return logits that have some likely tokens, and a temperature that gives them a chance."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(1, config.vocab_size, generator=generator)
    return logits, torch.tensor([0.8]), torch.tensor([0.7]), torch.tensor([0.4])


def image_preprocess_component(image_size: int, canvas: int) -> ComponentSpec:
    """Return what makes a picture into the vision tower's input."""
    return ComponentSpec(
        name="image_preprocess",
        variants={"full": partial(build_image_preprocess, image_size)},
        example_inputs=partial(image_preprocess_inputs, canvas),
        input_names=("canvas", "height", "width"),
        output_names=("pixels",),
        weights="none",
        needs_fp32=True,  # places of up to thousands of pixels, and whole levels
    )


def vision_tower_component(config: VisionTowerConfig) -> ComponentSpec:
    """Return the vision tower, with merging and without."""
    configs = {"full": replace(config, tome_r=0), "merged": config}
    return ComponentSpec(
        name="vision_tower",
        variants={name: partial(build_vision_tower, variant) for name, variant in configs.items()},
        example_inputs=partial(vision_tower_inputs, config),
        input_names=("pixels",),
        output_names=("features",),
        weights="checkpoint",
        open_weights=open_tower_weights,
        published=SIGLIP,
    )


def connector_component(config: LanguageModelConfig) -> ComponentSpec:
    """Return the connector."""
    return ComponentSpec(
        name="connector",
        variants={"full": partial(build_connector, config)},
        example_inputs=partial(connector_inputs, config),
        input_names=("features",),
        output_names=("visual",),
        weights="checkpoint",
        open_weights=open_connector_weights,
        published=replace(LLM, prefix=CONNECTOR_PREFIX),
    )


def llm_component(config: LanguageModelConfig) -> ComponentSpec:
    """Return the language model, for a chunk of the prompt and for a single token."""
    caches = tuple(f"{kind}_{layer}" for layer in range(config.num_layers) for kind in ("keys", "values"))
    inputs = {"prefill": partial(llm_inputs, config, config.chunk), "decode": partial(llm_inputs, config, 1)}
    return ComponentSpec(
        name="llm",
        variants=dict.fromkeys(inputs, partial(build_llm, config)),
        example_inputs=inputs["prefill"],
        own_inputs={"decode": inputs["decode"]},
        input_names=("input_ids", "visual_places", "visual", "cached", "last", *caches),
        output_names=("logits", *(f"new_{name}" for name in caches)),
        weights="checkpoint",
        open_weights=open_llm_weights,
        published=LLM,
        needs_fp32=True,  # Phi-2's attention logits outgrow fp16
    )


def sampling_component(config: LanguageModelConfig) -> ComponentSpec:
    """Return the choice of the next token, which has no weights."""
    return ComponentSpec(
        name="sampling",
        variants={"full": partial(Sampling, config.token_ids)},
        example_inputs=partial(sampling_inputs, config),
        input_names=("logits", "temperature", "top_p", "noise"),
        output_names=("token",),
        weights="none",
        needs_fp32=True,  # probabilities of thousands of tokens, summed up
    )
