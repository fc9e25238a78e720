"""Operators on tensors of several dtypes, which PyTorch promotes and kernels do not."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Final

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.written_out import Formula, WrittenOut

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


def _copied(x: Tensor, source: Tensor, _non_blocking: bool) -> Tensor:
    return source.to(x.dtype).expand(x.shape)


COPIES: Final = WrittenOut("normalise::copies", {aten.copy.default: _copied})
"""What is copied takes the dtype and the shape of what it is copied over."""


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


def _mean(x: Tensor, dim: list[int] | None, keepdim: bool, dtype: torch.dtype) -> Tensor:
    return x.to(dtype).mean(dim, keepdim)


def _mean_of_all(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype).mean()


def _softmax(of: Callable[[Tensor, int], Tensor]) -> Formula:
    return lambda x, dim, dtype: of(x.to(dtype), dim)


def _is_computed_as_it_is(node: fx.Node) -> str:
    given = bound_arguments(node)
    return "" if given["dtype"] not in (None, value_of(given["self"]).dtype) else "in its own dtype"


MEANS: Final = WrittenOut(
    "normalise::means",
    {
        aten.mean.dim: _mean,
        aten.mean.default: _mean_of_all,
        aten.softmax.int: _softmax(torch.softmax),
        aten.log_softmax.int: _softmax(torch.log_softmax),
    },
    unless=_is_computed_as_it_is,
)
"""Means and softmax in another dtype: what they are of is converted first."""


def _either(x: Tensor, y: Tensor, _alpha: float) -> Tensor:
    return torch.logical_or(x, y)


TRUTH_SUMS: Final = WrittenOut(
    "normalise::truth_sums",
    {aten.add.Tensor: _either},
    unless=lambda node: "" if _are_truths(node) else "numbers",
)
"""A sum of truth values is whether either is true."""


def _are_truths(node: fx.Node) -> bool:
    operands = bound_arguments(node)["self"], bound_arguments(node)["other"]
    return all(isinstance(each, fx.Node) and value_of(each).dtype == torch.bool for each in operands)


def _subtracted_from(x: Tensor, number: float, alpha: float) -> Tensor:
    return number - x.to(torch.result_type(x, number)) * alpha


def _added(x: Tensor, number: float, alpha: float) -> Tensor:
    return x.to(torch.result_type(x, number)) + number * alpha


ADDED_NUMBERS: Final = WrittenOut(
    "normalise::added_numbers",
    {aten.add.Scalar: _added, aten.rsub.Scalar: _subtracted_from},
    unless=lambda node: "one dtype" if value_of(bound_arguments(node)["self"]).dtype == value_of(node).dtype else "",
)
"""A number of another kind than the tensor that it is added to."""
