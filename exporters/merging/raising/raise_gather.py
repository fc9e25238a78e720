"""Raise gathers of whole rows to `gather_rows`."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.dialect import gather_rows
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule
from tm_export.exporters.merging.raising.rows import RowIndex, as_rows, front, row_index

aten = torch.ops.aten


class RaiseGather(Rule[RowIndex]):
    """Replaces a gather whose index was expanded over the channels, or a take_along_dim that expands it itself.

    Before::

        index = expand(index_BK1, [B, K, C])        rows = gather(x_BNC, 1, index)
        rows = take_along_dim(x_BNC, index_BK1, 1)

    After::

        rows = gather_rows(x_BNC, index_BK)

    The expanded index is as large as the rows themselves, in int64; the rows need only one number each.
    """

    name = "merge::raise_gather"
    pattern = frozenset({aten.gather.default, aten.take_along_dim.default})

    def check(self, node: fx.Node) -> RowIndex | No:
        """Look for the index before it was expanded; only take_along_dim can spread the tensor as well."""
        expands = node.target is aten.take_along_dim.default
        given = bound_arguments(node)
        index = given["indices" if expands else "index"]
        if given["dim"] is None:
            return No("the index counts the elements of the whole tensor")
        shape, index_shape = value_of(given["self"]).shape, value_of(index).shape
        if not shape:
            return No("a scalar has no rows")
        dim = from_front(given["dim"], len(shape))
        others = [(d > dim, a, b) for d, (a, b) in enumerate(zip(shape, index_shape, strict=True)) if d != dim]
        if expands and any(a != b and not (behind and b == 1) for behind, a, b in others):
            return No("the index and the tensor are both spread over other dimensions")
        return row_index(index, dim) or No("the index differs from channel to channel")

    def rewrite(self, node: fx.Node, match: RowIndex, values: Values) -> Any:
        """Gather rows, and give them the shape that the index had."""
        x = values(bound_arguments(node)["self"])
        if node.target is aten.gather.default:
            x = front(x, value_of(node).shape, but=match.dim)
        return gather_rows(as_rows(x, match.dim), match(values)).reshape(value_of(node).shape)
