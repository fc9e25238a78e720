"""Searches in what is in order: by counting, and by choosing the first k."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from tm_export.exporters.graph.written_out import WrittenOut, as_tensor

aten = torch.ops.aten


def _bucketize(x: Tensor | float, boundaries: Tensor, out_int32: bool, right: bool) -> Tensor:
    """How many boundaries lie below each number, or below and at it."""
    value = as_tensor(x, torch.result_type(x, boundaries)).unsqueeze(-1)
    below = boundaries <= value if right else boundaries < value
    return below.to(torch.int32 if out_int32 else torch.int64).sum(-1, dtype=torch.int32 if out_int32 else torch.int64)


def _searchsorted(
    ordered: Tensor, x: Tensor | float, out_int32: bool, right: bool, side: str | None, sorter: Tensor | None
) -> Tensor:
    """The same in a row of boundaries for each row of numbers."""
    if sorter is not None:
        ordered = ordered.gather(-1, sorter)
    rows = ordered if ordered.dim() == 1 else ordered.unsqueeze(-2)
    return _bucketize(x, rows, out_int32, right or side == "right")


SEARCHES: Final = WrittenOut(
    "normalise::searches",
    {
        aten.bucketize.Tensor: _bucketize,
        aten.bucketize.Scalar: _bucketize,
        aten.searchsorted.Tensor: _searchsorted,
        aten.searchsorted.Scalar: _searchsorted,
    },
)


def _kth(x: Tensor, k: int, dim: int, keepdim: bool) -> tuple[Tensor, Tensor]:
    """The k-th smallest, the last of the k smallest in order."""
    if not x.dim():
        return x, torch.zeros((), dtype=torch.int64)
    values, indices = x.topk(k, dim, largest=False, sorted=True)
    value, index = (each.narrow(dim, k - 1, 1) for each in (values, indices))
    return (value, index) if keepdim else (value.squeeze(dim), index.squeeze(dim))


def _median(x: Tensor, dim: int, keepdim: bool) -> tuple[Tensor, Tensor]:
    return _kth(x, (x.shape[dim] + 1) // 2 if x.dim() else 1, dim, keepdim)


def _median_of_all(x: Tensor) -> Tensor:
    return _median(x.reshape(-1), 0, False)[0]


KTH: Final = WrittenOut(
    "normalise::kth",
    {aten.kthvalue.default: _kth, aten.median.dim: _median, aten.median.default: _median_of_all},
)
"""What stands at a place in the order; a median without NaN, of two in the middle the smaller."""


def _last(x: Tensor, dim: int) -> Tensor:
    """With this dimension as the last."""
    return x.permute([*(d for d in range(x.dim()) if d != dim % x.dim()), dim])


def _quantile(x: Tensor, q: Tensor | float, dim: int | None, keepdim: bool, interpolation: str) -> Tensor:
    """Between the two numbers in order that q·(N − 1) lies between; NaN where there is one."""
    rows = x.reshape(-1) if dim is None or not x.dim() else _last(x, dim)
    ordered, last = rows.sort(-1).values, rows.shape[-1] - 1
    rank = as_tensor(q, x.dtype) * last
    below, above = rank.floor(), rank.ceil()
    if interpolation in ("lower", "higher", "nearest"):
        below = above = {"lower": below, "higher": above, "nearest": rank.round()}[interpolation]
    low, high = (ordered.index_select(-1, at.reshape(-1).to(torch.int64)) for at in (below, above))
    share = torch.full((), 0.5, dtype=x.dtype) if interpolation == "midpoint" else (rank - below).reshape(-1)
    value = torch.where(rows.isnan().any(-1, keepdim=True), math.nan, low + (high - low) * share)
    if keepdim:
        shape = [1] * x.dim() if dim is None else [1 if d == dim % x.dim() else n for d, n in enumerate(x.shape)]
    else:
        shape = list(value.shape[:-1])
    return value.permute(-1, *range(value.dim() - 1)).reshape((*rank.shape, *shape))


QUANTILES: Final = WrittenOut(
    "normalise::quantiles", {aten.quantile.default: _quantile, aten.quantile.scalar: _quantile}
)
"""Written in a sort, which is then seen where merges are recognised."""
