"""Rotary positions of frames, over interleaved channel pairs.

Source: Su et al., "RoFormer", arXiv 2104.09864, section 3.4.2, with the pairs (2i, 2i+1) of the paper.
"""

import torch
from torch import Tensor, nn

from tm_export.models.ondevice_sora.config import DenoiserConfig
from tm_export.models.ondevice_sora.network.embeddings import BASE_PERIOD

Rotation = tuple[Tensor, Tensor]


class RotaryEmbedding(nn.Module):
    """The rotation of each frame's queries and keys.

    `freqs` [K/2] is a parameter that the checkpoint brings; the formula only fills it where there is none.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
        self.freqs = nn.Parameter(BASE_PERIOD**-exponents, requires_grad=False)

    def forward(self, num_frames: int) -> Rotation:
        """Return cosine and sine [T, K] for frames 0..T−1, each frequency standing for two channels."""
        positions = torch.arange(num_frames, device=self.freqs.device, dtype=torch.float32)
        angles_TK = (positions[:, None] * self.freqs.float()).repeat_interleave(2, dim=-1)
        return angles_TK.cos(), angles_TK.sin()


def rotate(x_BHTK: Tensor, rotation: Rotation) -> Tensor:
    """Rotate each channel pair (2i, 2i+1) of frame t by its angle; same shape and dtype."""
    cos_TK, sin_TK = rotation
    even, odd = x_BHTK[..., ::2], x_BHTK[..., 1::2]
    turned = torch.stack([-odd, even], dim=-1).flatten(-2)
    return (x_BHTK * cos_TK + turned * sin_TK).to(x_BHTK.dtype)
