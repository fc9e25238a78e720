"""On-device Sora in the registry: the published sizes, and a tiny one with the same code.

The checkpoint of a published size is a folder with one folder for each network, as it is published or as
`python -m tm_export.models.synthesize` writes it:

    text_encoder/    DeepFloyd/t5-v1_1-xxl, in shards with their index
    denoiser/        hpcai-tech/OpenSora-STDiT-v3, model.safetensors
    vae/             hpcai-tech/OpenSora-VAE-v1.2, model.safetensors, for both halves of its decoder
"""

from dataclasses import replace
from functools import partial

from tm_export.models.ondevice_sora.components import (
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
from tm_export.models.registry import ComponentSpec, ModelSpec
from tm_export.models.seeding import seeded

FULL = DenoiserConfig()
FULL_144P = replace(FULL, height=20, width=27, pixel_height=166, pixel_width=221)
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
TINY_TEXT_ENCODER = TextEncoderConfig(
    num_layers=2,
    hidden_size=64,
    num_heads=4,
    head_dim=16,
    intermediate_size=160,
    vocab_size=256,
    text_tokens=16,
)
TINY_TEMPORAL_VAE = TemporalVaeConfig(
    channels=(16, 32, 32, 48), blocks_per_stage=2, groups=8, frames=2, height=16, width=16
)
TINY_SPATIAL_VAE = SpatialVaeConfig(channels=(16, 32, 48, 48), blocks_per_stage=2, groups=8, height=16, width=16)
TINY_SEED = 0


def published_components(denoiser: DenoiserConfig) -> tuple[ComponentSpec, ...]:
    """Return all networks at their published widths, for the denoiser's video size."""
    return (
        text_encoder_component(TextEncoderConfig(text_tokens=denoiser.text_tokens)),
        denoiser_component(denoiser),
        sampler_component(denoiser),
        vae_temporal_component(TemporalVaeConfig(height=denoiser.height, width=denoiser.width)),
        vae_spatial_component(SpatialVaeConfig(height=denoiser.height, width=denoiser.width)),
    )


def seeded_component(component: ComponentSpec, seed: int) -> ComponentSpec:
    """Return the component with weights from the seed, in place of a checkpoint's."""
    variants = {name: partial(seeded, build, seed) for name, build in component.variants.items()}
    return replace(component, variants=variants, weights="seeded", published=None)


MODELS = (
    ModelSpec(
        name="ondevice-sora",
        description="Text to video on a phone: STDiT3 with temporal token merging, 256 px, 68 frames",
        components=published_components(FULL),
    ),
    ModelSpec(
        name="ondevice-sora-144p",
        description="The same networks for 68 frames of 166 by 221 px, which are 2800 tokens",
        components=published_components(FULL_144P),
    ),
    ModelSpec(
        name="ondevice-sora-tiny",
        description="The same architecture with about a million parameters",
        components=(seeded_component(denoiser_component(TINY), TINY_SEED), sampler_component(TINY)),
    ),
)
