"""Operators on tensors of several dtypes, which PyTorch promotes and kernels do not."""

from __future__ import annotations

from functools import reduce
from typing import Final

import torch
from torch import Tensor, fx

from tm_export.exporters.arguments import bound_arguments
from tm_export.exporters.retrace import value_of
from tm_export.exporters.rules.written_out import WrittenOut

aten = torch.ops.aten


def _side_by_side(tensors: list[Tensor], dim: int) -> Tensor:
    dtype = reduce(torch.promote_types, (each.dtype for each in tensors))
    return torch.cat([each.to(dtype) for each in tensors], dim)


CONCATENATIONS: Final = WrittenOut(
    "normalise::concatenations",
    {aten.cat.default: _side_by_side},
    unless=lambda node: "one dtype" if len({value_of(each).dtype for each in node.all_input_nodes}) == 1 else "",
)
"""Of several dtypes."""


def _sum(x: Tensor, dim: list[int] | None, keepdim: bool, dtype: torch.dtype) -> Tensor:
    return x.to(dtype).sum(dim, keepdim, dtype=dtype)


def _sum_of_all(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype).sum(dtype=dtype)


def _is_summed_as_it_is(node: fx.Node) -> str:
    given = bound_arguments(node)
    x = value_of(given["self"])
    return "" if given["dtype"] not in (None, x.dtype) and x.is_floating_point() else "in its own dtype"


SUMS: Final = WrittenOut(
    "normalise::sums",
    {aten.sum.dim_IntList: _sum, aten.sum.default: _sum_of_all},
    unless=_is_summed_as_it_is,
)
"""Of floats in another dtype: they are converted first."""


def _selection_written(x: Tensor, source: Tensor, dim: int, index: int) -> Tensor:
    return torch.select_scatter(x, source.to(x.dtype), dim, index)


def _slice_written(x: Tensor, source: Tensor, dim: int, start: int | None, end: int | None, step: int) -> Tensor:
    return torch.slice_scatter(x, source.to(x.dtype), dim, start, end, step)


WRITES: Final = WrittenOut(
    "normalise::writes",
    {aten.select_scatter.default: _selection_written, aten.slice_scatter.default: _slice_written},
    unless=lambda node: "one dtype" if len({value_of(each).dtype for each in node.all_input_nodes}) == 1 else "",
)
"""Of another dtype than what they are written into."""


def _added(x: Tensor, number: float, alpha: float) -> Tensor:
    return x.to(torch.result_type(x, number)) + number * alpha


ADDED_NUMBERS: Final = WrittenOut(
    "normalise::added_numbers",
    {aten.add.Scalar: _added},
    unless=lambda node: "one dtype" if value_of(bound_arguments(node)["self"]).dtype == value_of(node).dtype else "",
)
"""A number of another kind than the tensor that it is added to."""
