"""Raise scatters to `scatter_rows`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.dialect import REDUCTIONS, scatter_rows
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule
from tm_export.exporters.merging.raising.rows import (
    RowIndex,
    as_index,
    as_rows,
    from_last,
    front,
    put_back,
    row_index,
    to_last,
)

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
        """Read how rows are reduced."""
        given = bound_arguments(node)
        rank = value_of(given["self"]).dim()
        if not rank:
            return No("a scalar has no rows")
        dim = from_front(given["dim"], rank)
        asked = given.get("reduce", "sum" if node.target is aten.scatter_add.default else "set")
        reduce = _NAMES.get(asked, asked)
        if reduce not in REDUCTIONS:
            return No(f'reduce="{reduce}" is not known')
        return Scatter(dim, reduce, given.get("include_self", True), row_index(given["index"], dim))

    def rewrite(self, node: fx.Node, match: Scatter, values: Values) -> Any:
        """Scatter rows into the part of the base that the index covers, and give the result the shape of the base."""
        given = bound_arguments(node)
        whole, index = values(given["self"]), as_index(values(given["index"]))
        base = front(whole, index.shape, but=match.dim)
        src = values(given["src"]) if "src" in given else torch.full(index.shape, given["value"], dtype=base.dtype)
        src = front(src, index.shape)  # a source may be larger than its index
        if match.index is not None:
            rows = scatter_rows(
                as_rows(base, match.dim),
                match.index(values),
                as_rows(src, match.dim),
                match.reduce,
                match.include_base,
            )
            return put_back(rows.reshape(base.shape), whole)
        moved = to_last(base, match.dim)
        channels, arriving = math.prod(moved.shape[:-1]), index.shape[match.dim]
        rows = scatter_rows(
            moved.reshape(channels, moved.shape[-1], 1),
            to_last(index, match.dim).reshape(channels, arriving),
            to_last(src, match.dim).reshape(channels, arriving, 1),
            match.reduce,
            match.include_base,
        )
        return put_back(from_last(rows.reshape(moved.shape), match.dim), whole)
