"""Rows that stand for two rows each, not yet written twice.

What follows an unmerge is nearly always a gate and a residual addition. The gate is the same for both rows, so it is
applied before they are repeated; the addition repeats them by broadcasting. The repeated tensor is never made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from tm_export.exporters.lowering.pairs import lower_pair_repeat


@dataclass(frozen=True)
class Repeated:
    """A tensor of `shape` of which rows 2k and 2k+1 along `dim` are row k of `half`."""

    half: Tensor
    shape: tuple[int, ...]
    dim: int

    def tensor(self) -> Tensor:
        """Write every row twice."""
        before, behind = math.prod(self.shape[: self.dim]), math.prod(self.shape[self.dim + 1 :])
        rows = self.half.reshape(before, self.shape[self.dim] // 2, behind)
        return lower_pair_repeat(rows).reshape(self.shape)

    def viewed(self, shape: Sequence[int]) -> Repeated | None:
        """In another shape, if some dimension of it still counts the repeated rows, else None."""
        before = math.prod(self.shape[: self.dim])
        for dim, size in enumerate(shape):
            if size == self.shape[self.dim] and math.prod(shape[:dim]) == before:
                halved = (*shape[:dim], size // 2, *shape[dim + 1 :])
                return Repeated(self.half.reshape(halved), tuple(shape), dim)
        return None

    def times(self, factor: Tensor) -> Repeated | None:
        """Multiplied by what is the same for both rows and makes the tensor no larger, else None."""
        place = self.dim - (len(self.shape) - factor.dim())
        if factor.dim() > len(self.shape) or (place >= 0 and factor.shape[place] != 1):
            return None
        if any(size not in (1, own) for size, own in zip(reversed(factor.shape), reversed(self.shape), strict=False)):
            return None
        return Repeated(self.half * factor, self.shape, self.dim)

    def plus(self, other: Tensor) -> Tensor | None:
        """Added to a tensor of the same shape, by broadcasting; None for another shape."""
        if tuple(other.shape) != self.shape:
            return None
        before, behind = math.prod(self.shape[: self.dim]), math.prod(self.shape[self.dim + 1 :])
        pairs = other.reshape(before, self.shape[self.dim] // 2, 2, behind)
        halves = self.half.reshape(before, self.shape[self.dim] // 2, 1, behind)
        return (pairs + halves).reshape(self.shape)
