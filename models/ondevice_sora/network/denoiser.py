"""STDiT3, the denoiser of Open-Sora 1.2 and On-device Sora, for one static video size.

Source: Open-Sora 1.2 (github.com/hpcaitech/Open-Sora), checkpoint hpcai-tech/OpenSora-STDiT-v3, whose keys
and shapes these modules have; Kim et al., "On-device Sora", arXiv 2502.04363, for the merged variant. The
published code's mask of reference frames is left out: it is the identity for text to video.

Legend: B batch, T frames, H rows and W columns of the latent video, S tokens of one frame, C channels,
L text tokens, D channels of the text states.
"""

import torch
from torch import Tensor, nn

from tm_export.models.ondevice_sora.config import DenoiserConfig, Variant
from tm_export.models.ondevice_sora.network.attention import text_bias
from tm_export.models.ondevice_sora.network.block import SpatialBlock, TemporalBlock, layer_norm, modulate
from tm_export.models.ondevice_sora.network.embeddings import (
    PATCH_SIZE,
    PatchEmbedding,
    ScalarEmbedding,
    TextEmbedding,
    position_embedding,
)
from tm_export.models.ondevice_sora.network.rope import RotaryEmbedding


class FinalLayer(nn.Module):
    """Tokens to the pixels of their patches: [B, T, S, C] to [B, T, S, 4·C_out]."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        channels = config.hidden_size
        self.scale_shift_table = nn.Parameter(torch.randn(2, channels) / channels**0.5)
        self.norm_final = layer_norm(channels)
        self.linear = nn.Linear(channels, PATCH_SIZE[1] * PATCH_SIZE[2] * config.out_channels)

    def forward(self, x_BTSC: Tensor, t_emb_BC: Tensor) -> Tensor:
        """Return the patches, modulated by the timestep embedding itself and not by `t_block`'s output."""
        modulation = (self.scale_shift_table + t_emb_BC[:, None])[:, :, None, None, :]
        shift, scale = modulation.unbind(dim=1)
        patches: Tensor = self.linear(modulate(self.norm_final(x_BTSC), shift, scale))
        return patches


class Denoiser(nn.Module):
    """The whole denoiser.

    The variants `full` and `merged` have the same parameters under the same keys and differ in the forward
    pass alone, so one variant's `state_dict()` loads into the other.
    """

    def __init__(self, config: DenoiserConfig, variant: Variant) -> None:
        super().__init__()
        channels = config.hidden_size
        self.config = config
        self.x_embedder = PatchEmbedding(config)
        self.t_embedder = ScalarEmbedding(config)
        self.fps_embedder = ScalarEmbedding(config)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(channels, 6 * channels))
        self.y_embedder = TextEmbedding(config)
        self.rope = RotaryEmbedding(config)
        self.spatial_blocks = nn.ModuleList(SpatialBlock(config, variant) for _ in range(config.depth))
        self.temporal_blocks = nn.ModuleList(TemporalBlock(config, variant) for _ in range(config.depth))
        self.final_layer = FinalLayer(config)

    def forward(self, x_BCTHW: Tensor, timestep_B: Tensor, y_B1LD: Tensor, mask_BL: Tensor, fps_1: Tensor) -> Tensor:
        """Predict the velocity of the latent video and, unused by the sampler, its variance.

        Args:
            x_BCTHW: the noisy latent video [B, 4, T, H, W].
            timestep_B: the time of each row, in (0, 1000].
            y_B1LD: states of the text encoder [B, 1, L, D]; the empty prompt is `null_text`.
            mask_BL: 1 for a real text token and 0 for padding, float; B may be 1.
            fps_1: frames per second [1].

        Returns:
            [B, 8, T, H, W] float32: the velocity in the first 4 channels.
        """
        t_emb_BC = self.t_embedder(timestep_B) + self.fps_embedder(fps_1)
        modulation_B6C = self.t_block(t_emb_BC).view(-1, 6, self.config.hidden_size)
        y_BLC = self.y_embedder(y_B1LD.squeeze(1))
        bias_B11L = text_bias(mask_BL)

        position_SC = position_embedding(self.config, x_BCTHW.device).to(x_BCTHW.dtype)
        x_BTSC = self.x_embedder(x_BCTHW) + position_SC
        for spatial, temporal in zip(self.spatial_blocks, self.temporal_blocks, strict=True):
            x_BTSC = spatial(x_BTSC, y_BLC, modulation_B6C, bias_B11L, self.rope)
            x_BTSC = temporal(x_BTSC, y_BLC, modulation_B6C, bias_B11L, self.rope)
        patches = self.final_layer(x_BTSC, t_emb_BC)
        return unpatchify(patches, self.config).float()

    def null_text(self) -> Tensor:
        """Return the text states [1, 1, L, D] of the empty prompt, to go with the prompt's own mask."""
        return self.y_embedder.null_text(self.config.text_tokens)


class GuidedDenoiser(Denoiser):
    """The denoiser as classifier-free guidance runs it: on one latent video, with the prompt and without.

    Ho and Salimans, "Classifier-free diffusion guidance", arXiv 2207.12598. The two rows of the batch differ in the
    text alone, so the network makes them itself, of the prompt's states and its own null text.
    """

    def forward(
        self, latent_1CTHW: Tensor, timestep_1: Tensor, states_1LD: Tensor, mask_1L: Tensor, fps_1: Tensor
    ) -> Tensor:
        """Predict the velocity with the prompt, in the first row, and without it, in the second.

        Args:
            latent_1CTHW: the noisy latent video [1, 4, T, H, W].
            timestep_1: its time, in (0, 1000].
            states_1LD: states of the text encoder [1, L, D].
            mask_1L: 1 for a real text token and 0 for padding, float; the null text is masked alike.
            fps_1: frames per second [1].

        Returns:
            [2, 8, T, H, W] float32: the velocity in the first 4 channels.
        """
        y_21LD = torch.cat([states_1LD[:, None], self.null_text()])
        x_2CTHW = torch.cat([latent_1CTHW, latent_1CTHW])
        return super().forward(x_2CTHW, torch.cat([timestep_1, timestep_1]), y_21LD, mask_1L, fps_1)


def unpatchify(patches_BTSP: Tensor, config: DenoiserConfig) -> Tensor:
    """Return the video [B, C_out, T, H, W] of patches [B, T, S, 4·C_out].

    A patch's channels are in the order (row, column, channel), the channel fastest. What was padded is
    cut off.
    """
    _, patch_rows, patch_columns = PATCH_SIZE
    rows, columns = config.grid
    batch, frames = patches_BTSP.shape[:2]
    x = patches_BTSP.view(batch * frames, rows, columns, patch_rows, patch_columns, config.out_channels)
    x = x.permute(0, 5, 1, 3, 2, 4)
    x = x.reshape(batch, frames, config.out_channels, patch_rows * rows, patch_columns * columns)
    return x.transpose(1, 2)[..., : config.height, : config.width]
