"""Selection by a mask that is known to choose so many: the same with static shapes.

A mask of R rows, each with exactly k true, has positions [R, k], in ascending order::

    mask    0 1 0 1 1        keys = position where true, N elsewhere     5 1 5 3 4
                             the k smallest, in order                    1 3 4

The keys that are chosen are distinct, so no target can order them another way.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Chosen:
    """What a mask of `shape` chooses: positions [R, k] along the last of `shape`, flattened to one row if R is 1."""

    positions_RK: Tensor
    shape: tuple[int, ...]

    @property
    def flat(self) -> Tensor:
        """The positions [R·k] in the flattened mask, in ascending order."""
        rows = self.positions_RK.shape[0]
        if rows == 1:
            return self.positions_RK[0]
        return (self.positions_RK + self.shape[-1] * torch.arange(rows)[:, None]).flatten()

    @property
    def coordinates(self) -> list[Tensor]:
        """The positions along each dimension of the mask, [R·k] each: what `nonzero(as_tuple=True)` gives."""
        rest, found = self.flat, list[Tensor]()
        for size in reversed(self.shape[1:]):
            found.append(rest % size)
            rest = rest // size
        return [rest, *reversed(found)]


def positions(mask_RN: Tensor, count: int) -> Tensor:
    """Positions [R, count] of what is true in each row of a mask [R, N], if that is `count` in every row."""
    size = mask_RN.shape[1]
    keys_RN = torch.where(mask_RN, torch.arange(size), size)
    return keys_RN.topk(count, dim=1, largest=False).indices


def rows_of(x: Tensor, dim: int, chosen: Chosen) -> Tensor:
    """`x[…, mask, …]`, with the mask over the dimensions of `x` that begin at `dim`."""
    depth, rows = len(chosen.shape), chosen.positions_RK.shape[0]
    if rows > 1 and dim == 0:
        merged = x.flatten(0, depth - 2)
        return merged[torch.arange(rows)[:, None], chosen.positions_RK].flatten(0, 1)
    return x.flatten(dim, dim + depth - 1).index_select(dim, chosen.flat)


def without_uniform_dims(mask: Tensor) -> Tensor:
    """The mask without those last dimensions along which it is the same: of size 1, or expanded."""
    while mask.dim() > 1 and (mask.shape[-1] == 1 or mask.stride(-1) == 0):
        mask = mask[..., 0]
    return mask
