"""Operations that write values by index. Arithmetic: their sums are rounded once, not after each addition."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tm_export.runtime.engines.coreml_reference.ops.index import checked_indices, flat_indices
from tm_export.runtime.engines.coreml_reference.ops.table import Table

_REDUCTIONS = {"add": "sum", "max": "amax", "min": "amin", "mul": "prod"}


def _scatter_along(data: Tensor, dim: int, index: Tensor, updates: Tensor, mode: str) -> Tensor:
    if mode == "update":
        return data.scatter(dim, index, updates)
    if mode == "sub":
        return data.scatter_reduce(dim, index, -updates, "sum")
    if mode == "div":
        return data / torch.ones_like(data).scatter_reduce(dim, index, updates, "prod")
    if mode in _REDUCTIONS:
        return data.scatter_reduce(dim, index, updates, _REDUCTIONS[mode])
    raise ValueError(f"scatter has no mode {mode!r}")


def _scatter_along_axis(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: Tensor,
    mode: str,
    validate_indices: Tensor | None = None,
) -> Tensor:
    dim = int(axis)
    return _scatter_along(data, dim, checked_indices(indices, data.shape[dim]), updates, mode)


def _scatter(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: Tensor,
    mode: str,
    validate_indices: Tensor | None = None,
) -> Tensor:
    dim = int(axis) % data.ndim
    index = checked_indices(indices, data.shape[dim]).flatten()
    rows = updates.reshape(*data.shape[:dim], index.numel(), *data.shape[dim + 1 :])
    spread = index.reshape(-1, *[1] * (data.ndim - dim - 1)).expand(rows.shape)
    return _scatter_along(data, dim, spread, rows, mode)


def _scatter_nd(
    data: Tensor, indices: Tensor, updates: Tensor, mode: str, validate_indices: Tensor | None = None
) -> Tensor:
    indexed = data.shape[: indices.shape[-1]]
    flat = flat_indices(indices, indexed).flatten()
    rows = data.reshape(math.prod(indexed), -1)
    written = updates.reshape(flat.numel(), -1)
    spread = flat.unsqueeze(1).expand(written.shape)
    return _scatter_along(rows, 0, spread, written, mode).reshape(data.shape)


TABLE: Table = {"scatter": _scatter, "scatter_along_axis": _scatter_along_axis, "scatter_nd": _scatter_nd}
