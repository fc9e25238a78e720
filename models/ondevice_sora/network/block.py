"""The denoiser's blocks, in their full and merged variants.

Source: Open-Sora 1.2's STDiT3 for the block; Kim et al., "On-device Sora", arXiv 2502.04363, section 3.2, for
the merged variant (Temporal Dimension Token Merging).

Legend: B batch, T frames, S tokens of one frame, C channels, L text tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tm_export.models.merging.frame_pairs import merge_frame_pairs, unmerge_frame_pairs
from tm_export.models.ondevice_sora.config import DenoiserConfig, Variant
from tm_export.models.ondevice_sora.network.attention import CrossAttention, SelfAttention, text_bias
from tm_export.models.ondevice_sora.network.embeddings import Mlp
from tm_export.models.ondevice_sora.network.rope import RotaryEmbedding


def layer_norm(channels: int) -> nn.LayerNorm:
    """Return the norm of this architecture: no affine part, the modulation takes its place."""
    return nn.LayerNorm(channels, eps=1e-6, elementwise_affine=False)


def modulate(x_BTSC: Tensor, shift_B11C: Tensor, scale_B11C: Tensor) -> Tensor:
    """Return x · (1 + scale) + shift."""
    return x_BTSC * (1 + scale_B11C) + shift_B11C


class Block(nn.Module, ABC):
    """Self-attention, cross-attention to the text, MLP; each added to the residual stream [B, T, S, C].

    Self-attention and MLP are modulated and gated by the timestep; cross-attention has neither norm,
    modulation nor gate. In the merged variant both attentions see pairs of frames merged into their mean;
    the MLP never does.
    """

    def __init__(self, config: DenoiserConfig, variant: Variant) -> None:
        super().__init__()
        channels = config.hidden_size
        self.over_frames = over_frame_pairs if variant == "merged" else over_frames
        self.scale_shift_table = nn.Parameter(torch.randn(6, channels) / channels**0.5)
        self.norm1 = layer_norm(channels)
        self.attn = SelfAttention(config)
        self.cross_attn = CrossAttention(config)
        self.norm2 = layer_norm(channels)
        self.mlp = Mlp(channels, config.mlp_ratio * channels, channels)

    def forward(
        self,
        x_BTSC: Tensor,
        y_BLC: Tensor,
        modulation_B6C: Tensor,
        text_bias_B11L: Tensor,
        rope: RotaryEmbedding,
    ) -> Tensor:
        """Return the residual stream after this block.

        Args:
            x_BTSC: the residual stream.
            y_BLC: the projected text tokens.
            modulation_B6C: shift, scale and gate of the attention, then of the MLP, from the timestep.
            text_bias_B11L: from `text_bias`.
            rope: the rotary positions that all temporal blocks share.
        """
        modulation = (self.scale_shift_table + modulation_B6C)[:, :, None, None, :]
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.unbind(dim=1)

        def cross_attend(x: Tensor) -> Tensor:
            out: Tensor = self.cross_attn(x.flatten(1, 2), y_BLC, text_bias_B11L)
            return out.view_as(x)

        h_BTSC = modulate(self.norm1(x_BTSC), shift_a, scale_a)
        x_BTSC = x_BTSC + gate_a * self.over_frames(lambda h: self.attend(h, rope), h_BTSC)
        x_BTSC = x_BTSC + self.over_frames(cross_attend, x_BTSC)
        h_BTSC = modulate(self.norm2(x_BTSC), shift_m, scale_m)
        mlp_BTSC: Tensor = self.mlp(h_BTSC)
        return x_BTSC + gate_m * mlp_BTSC

    @abstractmethod
    def attend(self, h_BTSC: Tensor, rope: RotaryEmbedding) -> Tensor:
        """Return the self-attention of the tokens along this block's axis."""


class SpatialBlock(Block):
    """A block whose self-attention runs within each frame."""

    def attend(self, h_BTSC: Tensor, rope: RotaryEmbedding) -> Tensor:
        """Return the self-attention among the S tokens of each frame; it knows no rotary positions."""
        out: Tensor = self.attn(h_BTSC.flatten(0, 1))
        return out.view_as(h_BTSC)


class TemporalBlock(Block):
    """A block whose self-attention runs along time, at each place of the frame."""

    def attend(self, h_BTSC: Tensor, rope: RotaryEmbedding) -> Tensor:
        """Return the self-attention among the T frames; merged frames are positions 0..T/2−1 anew."""
        h_BSTC = h_BTSC.transpose(1, 2)
        out: Tensor = self.attn(h_BSTC.flatten(0, 1), rope(h_BTSC.shape[1]))
        return out.view(h_BSTC.shape).transpose(1, 2)


class BlockPair(nn.Module):
    """One spatial and one temporal block by themselves: the unit that a phone loads and runs."""

    def __init__(self, config: DenoiserConfig, variant: Variant) -> None:
        super().__init__()
        self.frames = config.frames
        self.spatial = SpatialBlock(config, variant)
        self.temporal = TemporalBlock(config, variant)
        self.rope = RotaryEmbedding(config)

    def forward(self, x_BNC: Tensor, y_BLC: Tensor, t_mlp_BM: Tensor, mask_BL: Tensor) -> Tensor:
        """Return the residual stream [B, N, C] after both blocks.

        Args:
            x_BNC: the residual stream, N = T·S, frame by frame.
            y_BLC: the projected text tokens.
            t_mlp_BM: the modulation of all blocks [B, 6·C].
            mask_BL: 1 for a real text token and 0 for padding, float; B may be 1.
        """
        batch, _, channels = x_BNC.shape
        x_BTSC: Tensor = x_BNC.view(batch, self.frames, -1, channels)
        modulation_B6C = t_mlp_BM.view(batch, 6, channels)
        bias = text_bias(mask_BL)
        x_BTSC = self.spatial(x_BTSC, y_BLC, modulation_B6C, bias, self.rope)
        x_BTSC = self.temporal(x_BTSC, y_BLC, modulation_B6C, bias, self.rope)
        return x_BTSC.reshape(batch, -1, channels)


def over_frames(function: Callable[[Tensor], Tensor], x_BTSC: Tensor) -> Tensor:
    """Apply the function to all frames: the full variant."""
    return function(x_BTSC)


def over_frame_pairs(function: Callable[[Tensor], Tensor], x_BTSC: Tensor) -> Tensor:
    """Apply the function to the means of frame pairs and repeat its results: the merged variant."""
    return unmerge_frame_pairs(function(merge_frame_pairs(x_BTSC)), x_BTSC.shape[1])
