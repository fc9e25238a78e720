"""Indices that count from the end, or beyond it: `take_along_dim` takes them modulo the size, as no gather does."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.bounds import Bounds, bounds_of
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.written_out import WrittenOut

aten = torch.ops.aten


def _taken(x: Tensor, index: Tensor, dim: int) -> Tensor:
    return torch.take_along_dim(x, index.remainder(x.shape[dim]), dim)


def _is_within(node: fx.Node) -> str:
    given = bound_arguments(node)
    if given["dim"] is None:
        return "counts all entries, from the front"
    within, found = Bounds(0, value_of(given["self"]).shape[given["dim"]] - 1), bounds_of(given["indices"])
    return "no index is beyond" if found is not None and found | within == within else ""


WRAPPED_INDICES: Final = WrittenOut(
    "normalise::wrapped_indices", {aten.take_along_dim.default: _taken}, unless=_is_within
)
"""What `take_along_dim` takes."""
