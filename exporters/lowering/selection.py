"""A choice of rows, known as an index or as a one-hot matrix, whichever is asked for.

A decision (`order`, `best`) produces a selection. What people do to indices between the decision and its use
(slicing off the first r, concatenating, indexing one choice by another) is done to both views, and each view is
computed only if some consumer reads it, so a form that needs no index leaves none in the graph.

Letters: B batch, K chosen rows, N rows that are chosen from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor


class Selection:
    """For each of B batches, K rows out of N."""

    def __init__(
        self,
        rows: int,
        candidates: int,
        *,
        index: Callable[[], Tensor] | None = None,
        onehot: Callable[[], Tensor] | None = None,
        position: Callable[[], Tensor] | None = None,
    ) -> None:
        assert index or onehot or position
        self.rows = rows
        self.candidates = candidates
        self._index, self._onehot, self._position = index, onehot, position

    @cached_property
    def index_BK(self) -> Tensor:
        """The chosen rows' numbers, int64."""
        return self._index() if self._index else self.position_BK.to(torch.int64)

    @cached_property
    def position_BK(self) -> Tensor:
        """The chosen rows' numbers as float32, exact below 2^24."""
        if self._position:
            return self._position()
        if self._index:
            return self.index_BK.to(torch.float32)
        return (self.onehot_BKN @ torch.arange(self.candidates, dtype=torch.float32).unsqueeze(-1)).squeeze(-1)

    @cached_property
    def onehot_BKN(self) -> Tensor:
        """1.0 where row k is candidate n, else 0.0; float32."""
        if self._onehot:
            return self._onehot()
        if self._index:
            return (self.index_BK.unsqueeze(-1) == torch.arange(self.candidates)).to(torch.float32)
        return (self.position_BK.unsqueeze(-1) == torch.arange(self.candidates, dtype=torch.float32)).to(torch.float32)

    @property
    def has_index(self) -> bool:
        """Whether an index is at hand without computing one from a matrix."""
        return self._index is not None

    def cut(self, start: int, end: int) -> Selection:
        """The rows from `start` to `end`."""
        return Selection(
            end - start,
            self.candidates,
            index=(lambda: self.index_BK[:, start:end]) if self._index else None,
            onehot=(lambda: self.onehot_BKN[:, start:end]),
            position=(lambda: self.position_BK[:, start:end]) if self._position else None,
        )

    def shifted(self, start: int, candidates: int) -> Selection:
        """The same rows where `start` other candidates stand before them, of `candidates` in all."""
        behind = candidates - start - self.candidates
        return Selection(
            self.rows,
            candidates,
            index=(lambda: self.index_BK + start) if self._index else None,
            onehot=lambda: F.pad(self.onehot_BKN, (start, behind)),
            position=lambda: self.position_BK + start,
        )

    def then(self, choice: Selection) -> Selection:
        """The rows of this selection that `choice` chooses among them."""
        assert choice.candidates == self.rows
        both = self._index and choice._index
        return Selection(
            choice.rows,
            self.candidates,
            index=(lambda: self.index_BK.gather(1, choice.index_BK)) if both else None,
            onehot=lambda: choice.onehot_BKN @ self.onehot_BKN,
            position=None if both else lambda: (choice.onehot_BKN @ self.position_BK.unsqueeze(-1)).squeeze(-1),
        )


def joined(parts: Sequence[Selection]) -> Selection:
    """The rows of all parts, one part after the other."""
    index = all(part.has_index for part in parts)
    return Selection(
        sum(part.rows for part in parts),
        parts[0].candidates,
        index=(lambda: torch.cat([part.index_BK for part in parts], 1)) if index else None,
        onehot=lambda: torch.cat([part.onehot_BKN for part in parts], 1),
        position=lambda: torch.cat([part.position_BK for part in parts], 1),
    )


def of_index(index_BK: Tensor, candidates: int) -> Selection:
    """The selection that an index tensor describes."""
    return Selection(index_BK.shape[1], candidates, index=lambda: index_BK)
