"""Pairs of neighbouring rows, on every target as two halves of a view: contiguous, no stride, no index."""

from __future__ import annotations

import torch
from torch import Tensor


def lower_pair_mean(x_BTC: Tensor) -> Tensor:
    """Means [B, T/2, C]: a pair of rows is one row of twice the width, and its halves are added."""
    B, T, C = x_BTC.shape
    pairs_BtD = x_BTC.reshape(B, T // 2, 2 * C)
    return (pairs_BtD[..., :C] + pairs_BtD[..., C:]) * 0.5


def lower_pair_repeat(x_BtC: Tensor) -> Tensor:
    """Each row twice, [B, 2t, C]: one row of twice the width."""
    B, t, C = x_BtC.shape
    return torch.cat([x_BtC, x_BtC], dim=-1).reshape(B, 2 * t, C)
