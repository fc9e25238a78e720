"""Running products, logarithms of sums and extremes, which no target has, and running sums of a single number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.written_out import WrittenOut

aten = torch.ops.aten


def _running(x: Tensor, dim: int, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Each entry combined with all before it: at each step with twice as many (Hillis & Steele, CACM 1986)."""
    dim, size, reach = from_front(dim, x.dim()), x.shape[dim] if x.dim() else 1, 1
    while reach < size:
        further = combine(x.narrow(dim, reach, size - reach), x.narrow(dim, 0, size - reach))
        x = torch.cat([x.narrow(dim, 0, reach), further], dim)
        reach *= 2
    return x


def _product(x: Tensor, dim: int, dtype: torch.dtype | None) -> Tensor:
    return _running(x.to(dtype or (x.dtype if x.is_floating_point() else torch.int64)), dim, torch.mul)


def _log_of_sum(x: Tensor, dim: int) -> Tensor:
    return _running(x, dim, torch.logaddexp)


def _extreme(beats: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
    """The best so far and its place; of equal ones the last."""

    def extreme(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        dim, size, reach = from_front(dim, x.dim()), x.shape[dim] if x.dim() else 1, 1
        shape = [size if d == dim else 1 for d in range(x.dim())]
        place = torch.arange(size).reshape(shape).expand(x.shape)
        while reach < size:
            later, earlier = ([each.narrow(dim, at, size - reach) for each in (x, place)] for at in (reach, 0))
            stays = beats(later[0], earlier[0])
            x, place = (
                torch.cat([each.narrow(dim, 0, reach), torch.where(stays, own, before)], dim)
                for each, own, before in zip((x, place), later, earlier, strict=True)
            )
            reach *= 2
        return x, place

    return extreme


RUNNING: Final = WrittenOut(
    "normalise::running",
    {
        aten.cumprod.default: _product,
        aten.logcumsumexp.default: _log_of_sum,
        aten.cummax.default: _extreme(torch.ge),
        aten.cummin.default: _extreme(torch.le),
    },
)
"""By doubling."""


def _sum_of_one(x: Tensor, dim: int, dtype: torch.dtype | None) -> Tensor:
    return x.to(dtype or (x.dtype if x.is_floating_point() else torch.int64))


def _is_array(node: fx.Node) -> str:
    return "an array" if value_of(bound_arguments(node)["self"]).dim() else ""


SUMS_OF_ONE: Final = WrittenOut("normalise::sums_of_one", {aten.cumsum.default: _sum_of_one}, unless=_is_array)
"""A running sum of a single number."""
