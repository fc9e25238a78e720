"""On-device Sora in the registry: the published sizes, and a tiny one with the same code.

The checkpoint of a published size is a folder with one folder for each network, as it is published or as
`python -m tm_export.models.synthesize` writes it:

    text_encoder/    DeepFloyd/t5-v1_1-xxl, in shards with their index
                     and its spiece.model
    denoiser/        hpcai-tech/OpenSora-STDiT-v3, model.safetensors
    vae/             hpcai-tech/OpenSora-VAE-v1.2, model.safetensors, for both halves of its decoder
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from tm_export.models.ondevice_sora.components import (
    T5,
    denoiser_component,
    sampler_component,
    text_encoder_component,
    vae_spatial_component,
    vae_temporal_component,
)
from tm_export.models.ondevice_sora.config import (
    DenoiserConfig,
    SpatialVaeConfig,
    TemporalVaeConfig,
    TextEncoderConfig,
)
from tm_export.models.ondevice_sora.network.sampler import time_shift
from tm_export.models.ondevice_sora.tiny import WEIGHTS, sizes
from tm_export.models.ondevice_sora.tiny.words import build_tokenizer
from tm_export.models.ondevice_sora.tokenizer import synthetic_tokenizer, tokenizer_of_t5
from tm_export.models.spec.model_size import ModelSize, SizeRefused
from tm_export.models.spec.registry import ComponentSpec, ModelSpec
from tm_export.models.spec.trained import trained_component
from tm_export.models.spec.videos import TextToVideoSpec

FULL = DenoiserConfig()
FULL_144P = replace(FULL, height=20, width=27, pixel_height=166, pixel_width=221)
GUIDANCE: Final = 3.0
"""Of the tiny model: of 3, 5 and 7 the one with which most held-out captions are followed."""

APP_LATENT_FRAMES: Final = 15
"""Those of 51 frames: the published app's schedule is for so many, whatever the video has."""

SMALLEST, LARGEST = 64, 1280
"""Pixels of a side. Beyond 720p the published networks were not trained."""


def published_components(denoiser: DenoiserConfig) -> tuple[ComponentSpec, ...]:
    """Return all networks at their published widths, for the denoiser's video size."""
    return (
        text_encoder_component(TextEncoderConfig(text_tokens=denoiser.text_tokens)),
        denoiser_component(denoiser),
        sampler_component(denoiser),
        vae_temporal_component(TemporalVaeConfig(height=denoiser.height, width=denoiser.width)),
        vae_spatial_component(SpatialVaeConfig(height=denoiser.height, width=denoiser.width)),
    )


def text_to_video(
    denoiser: DenoiserConfig,
    temporal: TemporalVaeConfig,
    spatial: SpatialVaeConfig,
    *,
    tokenizer: Callable[[Path | None], str],
    synthetic_tokenizer: Callable[[], str] | None,
    prompt_suffix: str,
    cleaning: Literal["open-sora", "none"],
    fps: float,
    guidance: float,
) -> TextToVideoSpec:
    """Return how a host makes a video with networks of these sizes."""
    return TextToVideoSpec(
        tokenizer=tokenizer,
        synthetic_tokenizer=synthetic_tokenizer,
        text_tokens=denoiser.text_tokens,
        prompt_suffix=prompt_suffix,
        cleaning=cleaning,
        latent_shape=(1, 4, denoiser.frames, denoiser.height, denoiser.width),
        frames=denoiser.frames // temporal.frames * temporal.frames_out,
        height=denoiser.height * spatial.pixels_per_latent,
        width=denoiser.width * spatial.pixels_per_latent,
        window=temporal.frames,
        window_frames=temporal.frames_out,
        batch_frames=spatial.frames,
        fps=fps,
        steps=30,
        guidance=guidance,
        time_shift=time_shift(denoiser, denoiser.frames),
        app_time_shift=time_shift(denoiser, APP_LATENT_FRAMES),
    )


def published_tokenizer(checkpoint: Path | None) -> str:
    """Return the text of a `tokenizer.json` for the tokenizer in the checkpoint; raises TokenizerMissing."""
    assert checkpoint is not None, "the published networks have no weights without one"
    return tokenizer_of_t5(checkpoint / T5.folder)


def published_model(name: str, description: str, denoiser: DenoiserConfig) -> ModelSpec:
    """Return the published networks for the denoiser's video size."""

    def resized(size: ModelSize) -> ModelSpec:
        if size.max_tokens is not None:
            raise SizeRefused(f"{name} answers no questions: leave out --max-tokens")
        return published_model(name, description, resized_denoiser(denoiser, size.frames, size.pixels))

    return ModelSpec(
        name=name,
        description=description,
        components=published_components(denoiser),
        twin="ondevice-sora-tiny",
        text_to_video=text_to_video(
            denoiser,
            TemporalVaeConfig(),
            SpatialVaeConfig(),
            tokenizer=published_tokenizer,
            synthetic_tokenizer=synthetic_tokenizer,
            prompt_suffix=" aesthetic score: 6.5.",
            cleaning="open-sora",
            fps=24.0,
            guidance=7.0,
        ),
        resized=resized,
    )


def resized_denoiser(config: DenoiserConfig, frames: int | None, pixels: tuple[int, int] | None) -> DenoiserConfig:
    """Return the denoiser for a video of so many frames, of (height, width) pixels; None leaves it as it is.

    Raises:
        SizeRefused: the VAE does not make so many frames, or a side is too short or too long.
    """
    temporal = TemporalVaeConfig()
    if frames is not None:
        if frames < temporal.frames_out or frames % temporal.frames_out:
            many = ", ".join(str(count * temporal.frames_out) for count in range(1, 5))
            raise SizeRefused(
                f"a video of {frames} frames is none of whole windows of {temporal.frames_out}: choose one of {many}, …"
            )
        config = replace(config, frames=frames // temporal.frames_out * temporal.frames)
    if pixels is not None:
        height, width = pixels
        if not all(SMALLEST <= side <= LARGEST for side in pixels):
            raise SizeRefused(
                f"a video of {height}x{width} pixels is too small or too large: choose sides of {SMALLEST} to {LARGEST}"
            )
        factor = SpatialVaeConfig().pixels_per_latent
        config = replace(config, height=height // factor, width=width // factor, pixel_height=height, pixel_width=width)
    return config


TINY_COMPONENTS: Final = (
    text_encoder_component(sizes.TEXT_ENCODER),
    denoiser_component(sizes.DENOISER),
    sampler_component(sizes.DENOISER),
    vae_temporal_component(sizes.TEMPORAL_VAE),
    vae_spatial_component(sizes.SPATIAL_VAE),
)

TINY_TEXT_TO_VIDEO: Final = text_to_video(
    sizes.DENOISER,
    sizes.TEMPORAL_VAE,
    sizes.SPATIAL_VAE,
    tokenizer=lambda checkpoint: build_tokenizer().to_str(),
    synthetic_tokenizer=None,
    prompt_suffix="",
    cleaning="none",
    fps=sizes.FPS,
    guidance=GUIDANCE,
)

MODELS = (
    published_model(
        "ondevice-sora", "Text to video on a phone: STDiT3 with temporal token merging, 256 px, 68 frames", FULL
    ),
    published_model(
        "ondevice-sora-144p", "The same networks for 68 frames of 166 by 221 px, which are 2800 tokens", FULL_144P
    ),
    ModelSpec(
        name="ondevice-sora-tiny",
        description="The same classes with three million parameters, trained: a coloured shape moves, 64 px, 18 frames",
        components=tuple(trained_component(component, WEIGHTS) for component in TINY_COMPONENTS),
        text_to_video=TINY_TEXT_TO_VIDEO,
    ),
)
