"""Operations that select values by index or by condition."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tm_export.runtime.engines.coreml_reference.ops.table import Table


def checked_indices(indices: Tensor, size: int) -> Tensor:
    """Indices as int64, after making sure that each lies in [0, size).

    Since iOS 17 a negative index is out of range too, and what Core ML gives for one is undefined.

    Raises:
        IndexError: names the offending index.
    """
    wide = indices.long()
    outside = wide[(wide < 0) | (wide >= size)]
    if outside.numel():
        raise IndexError(f"index {int(outside[0])} is out of range [0, {size}); Core ML's result would be undefined")
    return wide


def _gather(
    x: Tensor, indices: Tensor, axis: Tensor, batch_dims: Tensor, validate_indices: Tensor | None = None
) -> Tensor:
    dim, batch = int(axis) % x.ndim, int(batch_dims)
    index = checked_indices(indices, x.shape[dim])
    shape = (*x.shape[:dim], *indices.shape[batch:], *x.shape[dim + 1 :])
    if batch == 0:
        return x.index_select(dim, index.flatten()).reshape(shape)
    rows = zip(x.flatten(0, batch - 1), index.flatten(0, batch - 1), strict=True)
    return torch.stack([row.index_select(dim - batch, i.flatten()) for row, i in rows]).reshape(shape)


def _gather_along_axis(x: Tensor, indices: Tensor, axis: Tensor, validate_indices: Tensor | None = None) -> Tensor:
    dim = int(axis)
    return torch.gather(x, dim, checked_indices(indices, x.shape[dim]))


def flat_indices(indices: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Index vectors (last axis of `indices`) into `shape`, as positions in a flat array."""
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for size, index in zip(shape, indices.unbind(-1), strict=True):
        flat = flat * size + checked_indices(index, size)
    return flat


def _gather_nd(x: Tensor, indices: Tensor, batch_dims: Tensor, validate_indices: Tensor | None = None) -> Tensor:
    batch, depth = int(batch_dims), indices.shape[-1]
    indexed = x.shape[batch : batch + depth]
    flat = flat_indices(indices, indexed)
    rest = x.shape[batch + depth :]
    batches = math.prod(x.shape[:batch])
    rows = x.reshape(batches, math.prod(indexed), *rest)
    picks = flat.reshape(batches, -1)
    return torch.stack([row[pick] for row, pick in zip(rows, picks, strict=True)]).reshape(*flat.shape, *rest)


def _select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(cond, a, b)


def _one_hot(indices: Tensor, one_hot_vector_size: Tensor, axis: Tensor, on_value: Tensor, off_value: Tensor) -> Tensor:
    classes = torch.arange(int(one_hot_vector_size))
    hot = torch.where(indices.unsqueeze(-1) == classes, on_value, off_value)
    return hot.movedim(-1, int(axis))


def _band_part(x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    rows = torch.arange(x.shape[-2]).unsqueeze(1)
    columns = torch.arange(x.shape[-1])
    below = (rows - columns <= lower) | (lower < 0)
    above = (columns - rows <= upper) | (upper < 0)
    return torch.where(below & above, x, torch.zeros((), dtype=x.dtype))


TABLE: Table = {
    "band_part": _band_part,
    "gather": _gather,
    "gather_along_axis": _gather_along_axis,
    "gather_nd": _gather_nd,
    "one_hot": _one_hot,
    "select": _select,
}
