"""Views by strides, as `fill_diagonal_` makes them: numbers by constant places in memory."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.written_out import WrittenOut

aten = torch.ops.aten


def _places(size: list[int], stride: list[int], offset: int | None) -> Tensor:
    """Where in memory each number of a view is."""
    places = torch.full([1] * len(size), offset or 0)
    for d, (count, step) in enumerate(zip(size, stride, strict=True)):
        places = places + (torch.arange(count) * step).reshape([-1 if i == d else 1 for i in range(len(size))])
    return places


def _as_strided(x: Tensor, size: list[int], stride: list[int], offset: int | None) -> Tensor:
    return x.reshape(-1).index_select(0, _places(size, stride, offset).reshape(-1)).reshape(size)


def _as_strided_scatter(x: Tensor, source: Tensor, size: list[int], stride: list[int], offset: int | None) -> Tensor:
    places = _places(size, stride, offset).reshape(-1)
    written = torch.zeros(x.numel(), dtype=torch.bool).scatter(0, places, torch.ones_like(places, dtype=torch.bool))
    number = torch.zeros(x.numel(), dtype=torch.int64).scatter(0, places, torch.arange(places.numel()))
    put = source.reshape(-1).index_select(0, number)
    return torch.where(written, put.to(x.dtype), x.reshape(-1)).reshape(x.shape)


def _is_out_of_order(node: fx.Node) -> str:
    """Places are counted in memory, which is in the order of the dimensions or is not known here."""
    return "" if value_of(bound_arguments(node)["self"]).is_contiguous() else "not in order in memory"


MEMORY: Final = WrittenOut(
    "normalise::memory",
    {aten.as_strided.default: _as_strided, aten.as_strided_scatter.default: _as_strided_scatter},
    unless=_is_out_of_order,
)
