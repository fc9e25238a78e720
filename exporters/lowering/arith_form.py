"""The arithmetic form: only what a CPU delegate takes (subtract, clamp, maximum of slices, matrix product).

As in the rank form, nothing needs a score to be the same each time it is read. A comparison is made once and gives 0 or
1, positions and ranks are whole numbers, and it is these that are read again.
"""

from __future__ import annotations

from typing import ClassVar, Final

import torch
from torch import Tensor

from tm_export.exporters.lowering.form import scatter_by_matmul
from tm_export.exporters.lowering.selection import Selection

STEEPNESS: Final = 2.0**75
"""Its square makes a whole number of the difference of any two float32 numbers: they are multiples of 2^-149."""
LIMIT: Final = 2.0**126
"""Scores are cut to ±LIMIT, so that differences of protected (infinite) scores stay numbers."""


class ArithForm:
    """Comparisons as clamp(K·difference, 0, 1), everything else by multiplying and adding."""

    name: ClassVar[str] = "arith"

    def order(self, keys_BN: Tensor, k: int, descending: bool) -> Selection:
        """Ranks of ranks, as in the rank form; a one-hot matrix by 1 − |rank − position|, cut at 0."""
        keys_BN = keys_BN.clamp(-LIMIT, LIMIT)
        rank_BN = ranks(-ranks(keys_BN if descending else -keys_BN))
        positions_K1 = torch.arange(k, dtype=torch.float32).unsqueeze(-1)
        return Selection(k, keys_BN.shape[1], onehot=lambda: is_position(rank_BN.unsqueeze(1), positions_K1))

    def best(self, scores_BMN: Tensor, largest: bool) -> Selection:
        """The winner of a knock-out: the better of two scores, with its position, by halving."""
        N = scores_BMN.shape[2]
        scores_BMN = scores_BMN.clamp(-LIMIT, LIMIT) if largest else (-scores_BMN).clamp(-LIMIT, LIMIT)

        def onehot() -> Tensor:  # of the one position: found anew, it might be another
            return is_position(selection.position_BK.unsqueeze(-1), torch.arange(N, dtype=torch.float32))

        def position() -> Tensor:
            return position_of_max(scores_BMN).squeeze(-1)

        selection = Selection(scores_BMN.shape[1], N, onehot=onehot, position=position)
        return selection

    def gather(self, x_BNC: Tensor, selection: Selection) -> Tensor:
        """A one-hot matrix times the rows; a single channel may hold infinite scores: the largest number then."""
        largest = torch.finfo(x_BNC.dtype).max
        return selection.onehot_BKN @ (x_BNC.clamp(-largest, largest) if x_BNC.shape[-1] == 1 else x_BNC)

    def scatter(
        self, base_BMC: Tensor, selection: Selection, src_BKC: Tensor, reduce: str, include_base: bool
    ) -> Tensor:
        """A transposed one-hot matrix times the rows."""
        return scatter_by_matmul(base_BMC, selection, src_BKC, reduce, include_base)


def is_position(rank: Tensor, position: Tensor) -> Tensor:
    """1.0 where two whole numbers are equal, else 0.0."""
    return (1 - (rank - position).abs()).clamp(0, 1)


def ranks(keys_BN: Tensor) -> Tensor:
    """How many keys are larger than each, [B, N], float32; of equal keys the left one comes first.

    Each pair is compared once: a key begins with its position as its rank, and where it is larger than a key to its
    left it loses one, and that one gains one.
    """
    B, N = keys_BN.shape
    left_NN = (torch.arange(N).unsqueeze(0) < torch.arange(N).unsqueeze(1)).to(torch.float32)
    difference_BNN = keys_BN.unsqueeze(2) - keys_BN.unsqueeze(1)
    overtakes_BNN = (difference_BNN * (left_NN * STEEPNESS) * STEEPNESS).clamp(0, 1)
    overtaken_BN = (torch.ones(B, 1, N) @ overtakes_BNN).squeeze(1)
    return torch.arange(N, dtype=torch.float32) + overtaken_BN - (overtakes_BNN @ torch.ones(B, N, 1)).squeeze(2)


def position_of_max(x_BMN: Tensor) -> Tensor:
    """The first position of each row's maximum, [B, M, 1], float32, by halving: the delegate has maximum and slices.

    Of two halves, each place keeps the larger value and its position; of equal values, that of the smaller position.
    The two halves of an odd number share the middle, which then meets itself and stays.
    """
    B, M, N = x_BMN.shape
    position = torch.arange(N, dtype=torch.float32).expand(1, 1, -1) if N > 1 else torch.zeros(B, M, 1)
    while (n := x_BMN.shape[-1]) > 1:
        half = (n + 1) // 2
        left, right = x_BMN[..., :half], x_BMN[..., n - half :]
        left_position, behind = position[..., :half], position[..., :half] - position[..., n - half :]
        right_wins = ((right - left) * STEEPNESS * STEEPNESS + behind).clamp(0, 1)
        x_BMN, position = torch.maximum(left, right), left_position - right_wins * behind
    return position
