"""The networks of On-device Sora as components: builders, example inputs, published checkpoints.

All take their weights from a checkpoint; a preset may seed them instead.
"""

from functools import partial
from typing import Final

import torch
from torch import Tensor

from tm_export.models.ondevice_sora.config import (
    DenoiserConfig,
    SpatialVaeConfig,
    TemporalVaeConfig,
    TextEncoderConfig,
    Variant,
)
from tm_export.models.ondevice_sora.network.denoiser import GuidedDenoiser
from tm_export.models.ondevice_sora.network.sampler import Sampler, time_shift
from tm_export.models.ondevice_sora.network.spatial_vae import VaeSpatial
from tm_export.models.ondevice_sora.network.temporal_vae import VaeTemporal
from tm_export.models.ondevice_sora.network.text_encoder import END_TOKEN, FIRST_WORD, TextEncoder
from tm_export.models.ondevice_sora.weights import open_text_encoder, open_vae_spatial, open_vae_temporal
from tm_export.models.spec.registry import ComponentSpec, PublishedCheckpoint

VARIANTS: Final[tuple[Variant, ...]] = ("full", "merged")
T5: Final = PublishedCheckpoint("DeepFloyd/t5-v1_1-xxl", folder="text_encoder", dtype=torch.float32)
STDIT3: Final = PublishedCheckpoint("hpcai-tech/OpenSora-STDiT-v3", folder="denoiser", dtype=torch.float32)
VAE: Final = PublishedCheckpoint("hpcai-tech/OpenSora-VAE-v1.2", folder="vae", dtype=torch.float32)


def build_denoiser(config: DenoiserConfig, variant: Variant) -> GuidedDenoiser:
    """Return the denoiser with guidance in evaluation mode, its weights as PyTorch initialises them."""
    return GuidedDenoiser(config, variant).eval()


def build_text_encoder(config: TextEncoderConfig) -> TextEncoder:
    """Return the text encoder in evaluation mode, its weights as PyTorch initialises them."""
    return TextEncoder(config).eval()


def build_vae_temporal(config: TemporalVaeConfig) -> VaeTemporal:
    """Return the temporal decoder in evaluation mode, its weights as PyTorch initialises them."""
    return VaeTemporal(config).eval()


def build_vae_spatial(config: SpatialVaeConfig) -> VaeSpatial:
    """Return the spatial decoder in evaluation mode, its weights as PyTorch initialises them."""
    return VaeSpatial(config).eval()


def denoiser_inputs(config: DenoiserConfig, seed: int) -> tuple[Tensor, ...]:
    """Return inputs of `GuidedDenoiser.forward`, two thirds of the text real."""
    generator = torch.Generator().manual_seed(seed)
    size = (1, config.in_channels, config.frames, config.height, config.width)
    return (
        torch.randn(size, generator=generator),
        torch.full((1,), 691.0),
        torch.randn(1, config.text_tokens, config.caption_channels, generator=generator),
        text_mask(config.text_tokens),
        torch.full((1,), 24.0),
    )


def text_encoder_inputs(config: TextEncoderConfig, seed: int) -> tuple[Tensor, ...]:
    """Return inputs of `TextEncoder.forward`: random tokens and the end token, two thirds of the text real."""
    generator = torch.Generator().manual_seed(seed)
    mask = text_mask(config.text_tokens)
    tokens = torch.randint(FIRST_WORD, config.vocab_size, mask.shape, generator=generator)
    tokens[:, int(mask.sum()) - 1] = END_TOKEN
    return tokens * mask.long(), mask


def text_mask(text_tokens: int) -> Tensor:
    """Return the mask [1, L] of a prompt that takes two thirds of the text."""
    mask = torch.zeros(1, text_tokens)
    mask[:, : max(1, 2 * text_tokens // 3)] = 1
    return mask


def vae_temporal_inputs(config: TemporalVaeConfig, seed: int) -> tuple[Tensor, ...]:
    """Return one window of a normalised latent video [1, 4, T, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(1, config.latent_channels, config.frames, config.height, config.width, generator=generator),)


def vae_spatial_inputs(config: SpatialVaeConfig, seed: int) -> tuple[Tensor, ...]:
    """Return frames [F, 4, H, W] at the scale of the temporal VAE's."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(config.frames, config.latent_channels, config.height, config.width, generator=generator)
    return (config.latent_scale * noise,)


def sampler_inputs(config: DenoiserConfig, seed: int) -> tuple[Tensor, ...]:
    """Return inputs of `Sampler.forward` at the sixteenth of thirty steps, with a leap by similarity in sight."""
    generator = torch.Generator().manual_seed(seed)
    size = (1, config.in_channels, config.frames, config.height, config.width)
    prediction = torch.randn(2, config.out_channels, *size[2:], generator=generator)
    plane = torch.zeros(config.in_channels, config.frames)
    plane[0, 0] = 1
    shift = time_shift(config, config.frames)
    return (
        torch.randn(size, generator=generator),
        prediction,
        prediction[:1, : config.in_channels] + torch.randn(size, generator=generator),
        *(torch.tensor([number]) for number in (15.0, 30.0, 7.0, shift, 30.0, 14.0, 1e-3, 3.0)),
        plane,
        *(torch.tensor([number]) for number in (0.9, 1.0)),
    )


def denoiser_component(config: DenoiserConfig) -> ComponentSpec:
    """Return the denoiser in its two variants."""
    return ComponentSpec(
        name="denoiser",
        variants={name: partial(build_denoiser, config, name) for name in VARIANTS},
        example_inputs=partial(denoiser_inputs, config),
        input_names=("latent", "timestep", "states", "mask", "fps"),
        output_names=("prediction",),
        weights="checkpoint",
        published=STDIT3,
    )


def text_encoder_component(config: TextEncoderConfig) -> ComponentSpec:
    """Return the text encoder."""
    return ComponentSpec(
        name="text_encoder",
        variants={"full": partial(build_text_encoder, config)},
        example_inputs=partial(text_encoder_inputs, config),
        input_names=("input_ids", "mask"),
        output_names=("states",),
        weights="checkpoint",
        open_weights=open_text_encoder,
        published=T5,
        needs_fp32=True,
    )


def sampler_component(config: DenoiserConfig) -> ComponentSpec:
    """Return the sampler's step, which has no weights."""
    return ComponentSpec(
        name="sampler",
        variants={"full": Sampler},
        example_inputs=partial(sampler_inputs, config),
        input_names=(
            *("latent", "prediction", "previous_velocity", "step", "steps", "guidance", "time_shift"),
            *("leap_step", "first_step", "tolerance", "patience", "plane", "best", "failures"),
        ),
        output_names=(
            *("next_latent", "velocity", "next_timestep", "similarity", "next_best", "next_failures", "done"),
        ),
        weights="none",
        needs_fp32=True,  # times of up to 1000, and differences of them
    )


def vae_temporal_component(config: TemporalVaeConfig) -> ComponentSpec:
    """Return the temporal half of the VAE's decoder."""
    return ComponentSpec(
        name="vae_temporal",
        variants={"full": partial(build_vae_temporal, config)},
        example_inputs=partial(vae_temporal_inputs, config),
        input_names=("latent",),
        output_names=("frames",),
        weights="checkpoint",
        open_weights=open_vae_temporal,
        published=VAE,
    )


def vae_spatial_component(config: SpatialVaeConfig) -> ComponentSpec:
    """Return the spatial half of the VAE's decoder."""
    return ComponentSpec(
        name="vae_spatial",
        variants={"full": partial(build_vae_spatial, config)},
        example_inputs=partial(vae_spatial_inputs, config),
        input_names=("frames",),
        output_names=("pictures",),
        weights="checkpoint",
        open_weights=open_vae_spatial,
        published=VAE,
    )
