"""Rotary positions as Phi has them: on the first channels of a head alone, its halves turned against each other.

Source: Su et al., "RoFormer", arXiv 2104.09864, section 3.4.2.
"""

import torch
from torch import Tensor

THETA = 10000.0


def rotary_tables(max_tokens: int, channels: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Return cosines and sines [max_tokens, channels], float32: both halves of the channels have the same."""
    frequencies = THETA ** -(torch.arange(0, channels, 2, dtype=torch.float32, device=device) / channels)
    angles = torch.arange(max_tokens, dtype=torch.float32, device=device)[:, None] * frequencies
    angles = torch.cat([angles, angles], dim=1)
    return angles.cos(), angles.sin()


def rotate(x_BHNK: Tensor, cos_NR: Tensor, sin_NR: Tensor) -> Tensor:
    """Rotate the first R channels of each head by the positions of their rows; the others stay."""
    turning, rest = x_BHNK[..., : cos_NR.shape[1]], x_BHNK[..., cos_NR.shape[1] :]
    low, high = turning.chunk(2, dim=-1)
    turned = turning * cos_NR + torch.cat([-high, low], dim=-1) * sin_NR
    return torch.cat([turned, rest], dim=-1)
