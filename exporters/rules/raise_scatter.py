"""Raise scatters to `scatter_rows`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from tm_export.exporters.arguments import bound_arguments, from_front
from tm_export.exporters.dialect import REDUCTIONS, scatter_rows
from tm_export.exporters.retrace import Values, value_of
from tm_export.exporters.rules.base import No, Rule
from tm_export.exporters.rules.rows import RowIndex, as_index, as_rows, from_last, row_index, to_last

aten = torch.ops.aten

_NAMES = {"add": "sum", "multiply": "prod"}


@dataclass(frozen=True)
class Scatter:
    """Along which dimension, how rows that meet are reduced, and where they go.

    Without `index` the destination differs from channel to channel.
    """

    dim: int
    reduce: str
    include_base: bool
    index: RowIndex | None


class RaiseScatter(Rule[Scatter]):
    """Replaces scatter, scatter_add and scatter_reduce with one operation on rows.

    Before::

        index = expand(index_BK1, [B, K, C])        y = scatter_reduce(base_BNC, 1, index, src_BKC, "mean")

    After::

        y = scatter_rows(base_BNC, index_BK, src_BKC, "mean", include_base=True)

    Core ML's converter has no scatter_reduce, ExecuTorch no kernel for it, and onnxscript's translation drops the
    "mean". An index that differs from channel to channel is kept by giving every channel a row of its own.
    """

    name = "merge::raise_scatter"
    pattern = frozenset({
        aten.scatter_reduce.two, aten.scatter_add.default, aten.scatter.src, aten.scatter.value,
        aten.scatter.reduce, aten.scatter.value_reduce,
    })  # fmt: skip

    def check(self, node: fx.Node) -> Scatter | No:
        """Read how rows are reduced; the index must cover the other dimensions wholly."""
        given = bound_arguments(node)
        shape, index_shape = value_of(given["self"]).shape, value_of(given["index"]).shape
        if not shape:
            return No("a scalar has no rows")
        dim = from_front(given["dim"], len(shape))
        if any(a != b for d, (a, b) in enumerate(zip(shape, index_shape, strict=True)) if d != dim):
            return No("the index covers a part of the other dimensions only")
        asked = given.get("reduce", "sum" if node.target is aten.scatter_add.default else "set")
        reduce = _NAMES.get(asked, asked)
        if reduce not in REDUCTIONS:
            return No(f'reduce="{reduce}" is not known')
        return Scatter(dim, reduce, given.get("include_self", True), row_index(given["index"], dim))

    def rewrite(self, node: fx.Node, match: Scatter, values: Values) -> Any:
        """Scatter rows, and give the result the shape of the base."""
        given = bound_arguments(node)
        base, index = values(given["self"]), as_index(values(given["index"]))
        src = values(given["src"]) if "src" in given else torch.full(index.shape, given["value"], dtype=base.dtype)
        src = src[tuple(slice(size) for size in index.shape)]  # a source may be larger than its index
        if match.index is not None:
            rows = scatter_rows(
                as_rows(base, match.dim),
                match.index(values),
                as_rows(src, match.dim),
                match.reduce,
                match.include_base,
            )
            return rows.reshape(base.shape)
        moved = to_last(base, match.dim)
        channels, arriving = math.prod(moved.shape[:-1]), index.shape[match.dim]
        rows = scatter_rows(
            moved.reshape(channels, moved.shape[-1], 1),
            to_last(index, match.dim).reshape(channels, arriving),
            to_last(src, match.dim).reshape(channels, arriving, 1),
            match.reduce,
            match.include_base,
        )
        return from_last(rows.reshape(moved.shape), match.dim)
