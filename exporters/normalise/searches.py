"""Searches in what is in order: by counting, and by choosing the first k."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from tm_export.exporters.rules.written_out import WrittenOut, as_tensor

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
