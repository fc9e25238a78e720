"""The sizes of `ondevice-sora-tiny`'s networks: 18 frames of 64×64 pixels as 6 latent frames of 8×8."""

from typing import Final

from tm_export.models.ondevice_sora.config import (
    DenoiserConfig,
    SpatialVaeConfig,
    TemporalVaeConfig,
    TextEncoderConfig,
)

FPS: Final = 8.0
DENOISER: Final = DenoiserConfig(
    depth=4,
    hidden_size=128,
    num_heads=4,
    caption_channels=64,
    max_text_tokens=16,
    text_tokens=16,
    frames=6,
    height=8,
    width=8,
    pixel_height=64,
    pixel_width=64,
    # It was trained at this size and at no larger one.
    unshifted_pixels=6 * 64 * 64,
)
TEXT_ENCODER: Final = TextEncoderConfig(
    num_layers=2,
    hidden_size=64,
    num_heads=4,
    head_dim=16,
    intermediate_size=160,
    vocab_size=32,
    text_tokens=16,
)
TEMPORAL_VAE: Final = TemporalVaeConfig(
    channels=(16, 24, 32, 32), blocks_per_stage=2, groups=8, frames=3, height=8, width=8
)
# The scale brings the trained encoder's latents to about unit variance.
SPATIAL_VAE: Final = SpatialVaeConfig(
    channels=(16, 24, 32, 32), blocks_per_stage=2, groups=8, latent_scale=0.25, frames=6, height=8, width=8
)
