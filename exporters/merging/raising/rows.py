"""Views between a tensor with its token dimension anywhere and rows: [B, N, C] with an index [B, K]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.merging.raising.uniform import Narrowed, narrow


@dataclass(frozen=True)
class RowIndex:
    """How to compute the index [B, K] of a gather or scatter along `dim`."""

    dim: int
    narrowed: Narrowed
    batch: int
    rows: int

    def __call__(self, values: Values) -> Tensor:
        """The index [B, K], int64."""
        return as_index(self.narrowed(values)).reshape(self.batch, self.rows)


def as_index(index: Tensor) -> Tensor:
    """The index in int64, which the dialect's are in."""
    return index if index.dtype is torch.int64 else index.to(torch.int64)


def row_index(index: fx.Node, dim: int) -> RowIndex | None:
    """The index as [B, K], if it is the same for all that lies behind dimension `dim`; else None."""
    shape = value_of(index).shape
    dim %= max(len(shape), 1)
    trailing = [d for d in range(dim + 1, len(shape)) if shape[d] != 1]
    batch, rows = math.prod(shape[:dim]), shape[dim]
    if not trailing:
        narrowed = narrow(index, dim + 1) if dim + 1 < len(shape) else None
        return RowIndex(dim, narrowed or (lambda values: values(index)), batch, rows)
    if len(trailing) > 1:
        return None  # no model seen gathers with an index expanded over two dimensions
    narrowed = narrow(index, trailing[0])
    return None if narrowed is None else RowIndex(dim, narrowed, batch, rows)


def front(x: Tensor, sizes: Sequence[int], *, but: int | None = None) -> Tensor:
    """The first so many of each dimension, but for one: what an index of these sizes reads or writes along that."""
    for d, size in enumerate(sizes):
        if d != but and size < x.shape[d]:
            x = x.narrow(d, 0, size)
    return x


def put_back(part: Tensor, whole: Tensor, first: int = 0) -> Tensor:
    """`whole` with its front, in dimensions from `first` on, replaced by `part`."""
    for d in range(first, whole.dim()):
        size = part.shape[d]
        if size < whole.shape[d]:
            replaced = put_back(part, whole.narrow(d, 0, size), d + 1)
            return torch.cat([replaced, whole.narrow(d, size, whole.shape[d] - size)], d)
    return part


def as_rows(x: Tensor, dim: int) -> Tensor:
    """`x` as [B, N, C]: what lies before `dim` flattened, `dim`, what lies behind flattened."""
    shape = x.shape
    return x.reshape(math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1 :]))


def to_last(x: Tensor, dim: int) -> Tensor:
    """`x` with dimension `dim` moved behind all others."""
    if dim == x.dim() - 1:
        return x
    return x.permute([*(d for d in range(x.dim()) if d != dim), dim])


def from_last(x: Tensor, dim: int) -> Tensor:
    """`x` with its last dimension moved to `dim`: undoes `to_last`."""
    if dim == x.dim() - 1:
        return x
    order = list(range(x.dim() - 1))
    return x.permute([*order[:dim], x.dim() - 1, *order[dim:]])
