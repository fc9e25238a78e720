"""The arithmetic form: only what a CPU delegate takes (subtract, clamp, maximum of slices, matrix product)."""

from __future__ import annotations

from typing import ClassVar, Final

import torch
from torch import Tensor

from tm_export.exporters.lowering.form import scatter_by_matmul
from tm_export.exporters.lowering.selection import Selection

STEEPNESS: Final = 2.0**100
"""Times any difference of two distinct normal float32 numbers of magnitude above 2^-77, at least 1."""
LIMIT: Final = 2.0**27
"""Scores are cut to ±LIMIT, so that differences of protected (infinite) scores stay numbers."""


class ArithForm:
    """Comparisons as clamp(K·difference, 0, 1), everything else by multiplying and adding."""

    name: ClassVar[str] = "arith"

    def order(self, keys_BN: Tensor, k: int, descending: bool) -> Selection:
        """Ranks by comparing all pairs; a one-hot matrix by 1 − |rank − position|, cut at 0."""
        N = keys_BN.shape[1]
        keys_BN = keys_BN.clamp(-LIMIT, LIMIT)
        difference_BNN = keys_BN.unsqueeze(1) - keys_BN.unsqueeze(2)
        before_BNN = exceeds(difference_BNN if descending else -difference_BNN)
        equal_BNN = 1 - before_BNN - before_BNN.transpose(1, 2)
        left_NN = (torch.arange(N).unsqueeze(0) < torch.arange(N).unsqueeze(1)).to(torch.float32)
        rank_BN = (before_BNN + equal_BNN * left_NN) @ torch.ones(N, 1)
        rank_B1N = rank_BN.transpose(1, 2)
        return Selection(k, N, onehot=lambda: is_position(rank_B1N, torch.arange(k, dtype=torch.float32).unsqueeze(-1)))

    def best(self, scores_BMN: Tensor, largest: bool) -> Selection:
        """The first position of the row's extreme, by comparing each score with it."""
        N = scores_BMN.shape[2]
        scores_BMN = scores_BMN.clamp(-LIMIT, LIMIT) if largest else (-scores_BMN).clamp(-LIMIT, LIMIT)
        misses_BMN = exceeds(row_max(scores_BMN) - scores_BMN)

        def position() -> Tensor:
            from_end_BMN = (1 - misses_BMN) * (N - torch.arange(N, dtype=torch.float32))
            return (N - row_max(from_end_BMN)).squeeze(-1)

        def onehot() -> Tensor:
            return is_position(position().unsqueeze(-1), torch.arange(N, dtype=torch.float32))

        return Selection(scores_BMN.shape[1], N, onehot=onehot, position=position)

    def gather(self, x_BNC: Tensor, selection: Selection) -> Tensor:
        """A one-hot matrix times the rows; a single channel may hold infinite scores."""
        return selection.onehot_BKN @ (x_BNC.clamp(-LIMIT, LIMIT) if x_BNC.shape[-1] == 1 else x_BNC)

    def scatter(
        self, base_BMC: Tensor, selection: Selection, src_BKC: Tensor, reduce: str, include_base: bool
    ) -> Tensor:
        """A transposed one-hot matrix times the rows."""
        return scatter_by_matmul(base_BMC, selection, src_BKC, reduce, include_base)


def exceeds(difference: Tensor) -> Tensor:
    """1.0 where the difference is positive, else 0.0."""
    return (difference * STEEPNESS).clamp(0, 1)


def is_position(rank: Tensor, position: Tensor) -> Tensor:
    """1.0 where two whole numbers are equal, else 0.0."""
    return (1 - (rank - position).abs()).clamp(0, 1)


def row_max(x_BMN: Tensor) -> Tensor:
    """The maximum of each row, [B, M, 1], by halving: maximum of slices is all that the delegate has."""
    while (n := x_BMN.shape[-1]) > 1:
        half = (n + 1) // 2
        x_BMN = torch.maximum(x_BMN[..., :half], x_BMN[..., n - half :])
    return x_BMN
