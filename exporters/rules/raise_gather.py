"""Raise gathers of whole rows to `gather_rows`."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from tm_export.exporters.dialect import gather_rows
from tm_export.exporters.retrace import Values, arguments, value_of
from tm_export.exporters.rules.base import No, Rule
from tm_export.exporters.rules.rows import RowIndex, as_rows, row_index

aten = torch.ops.aten


class RaiseGather(Rule[RowIndex]):
    """Replaces a gather whose index was expanded over the channels.

    Before::

        index = expand(index_BK1, [B, K, C])        rows = gather(x_BNC, 1, index)

    After::

        rows = gather_rows(x_BNC, index_BK)

    The expanded index is as large as the rows themselves, in int64; the rows need only one number each.
    """

    name = "merge::raise_gather"
    pattern = frozenset({aten.gather.default})

    def check(self, node: fx.Node) -> RowIndex | No:
        """Look for the index before it was expanded; the other dimensions must be whole."""
        x, dim, index = arguments(node)[:3]
        assert isinstance(x, fx.Node) and isinstance(dim, int) and isinstance(index, fx.Node)
        shape, index_shape = value_of(x).shape, value_of(index).shape
        if not shape:
            return No("a scalar has no rows")
        dim %= len(shape)
        if any(a != b for d, (a, b) in enumerate(zip(shape, index_shape, strict=True)) if d != dim):
            return No("the index covers a part of the other dimensions only")
        return row_index(index, dim) or No("the index differs from channel to channel")

    def rewrite(self, node: fx.Node, match: RowIndex, values: Values) -> Any:
        """Gather rows, and give them the shape that the index had."""
        x = values(arguments(node)[0])
        return gather_rows(as_rows(x, match.dim), match(values)).reshape(value_of(node).shape)
