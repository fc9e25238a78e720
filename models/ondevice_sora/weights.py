"""Open the published checkpoints of On-device Sora's networks, of which each component takes its part."""

from pathlib import Path

from torch import nn

from tm_export.models.checkpoints.checkpoint import Weights, open_weights

TIED_TO_SHARED = "encoder.embed_tokens.weight"
NOT_IN_TEXT_ENCODER = ("decoder.", "lm_head.")
IN_VAE_TEMPORAL = ("temporal_vae.decoder.", "temporal_vae.post_quant_conv.", "scale", "shift")
IN_VAE_SPATIAL = ("spatial_vae.module.decoder.", "spatial_vae.module.post_quant_conv.")


def open_text_encoder(module: nn.Module, path: Path) -> Weights:
    """Open DeepFloyd/t5-v1_1-xxl, or a whole T5 such as google/t5-v1_1-xxl, whose decoder is left out.

    The token table is there under one or both of two names.

    Raises:
        CheckpointError: if the checkpoint cannot be read or does not fit.
    """

    def rename(key: str) -> str | None:
        if key.startswith(NOT_IN_TEXT_ENCODER):
            return None
        return "shared.weight" if key == TIED_TO_SHARED else key

    return open_weights(module, path, rename=rename)


def open_vae_temporal(module: nn.Module, path: Path) -> Weights:
    """Open the temporal decoder in hpcai-tech/OpenSora-VAE-v1.2.

    Raises:
        CheckpointError: if the checkpoint cannot be read or does not fit.
    """
    return open_weights(module, path, rename=lambda key: key if key.startswith(IN_VAE_TEMPORAL) else None)


def open_vae_spatial(module: nn.Module, path: Path) -> Weights:
    """Open the spatial decoder in hpcai-tech/OpenSora-VAE-v1.2.

    Raises:
        CheckpointError: if the checkpoint cannot be read or does not fit.
    """
    return open_weights(module, path, rename=lambda key: key if key.startswith(IN_VAE_SPATIAL) else None)
