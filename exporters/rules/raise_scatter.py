"""Raise scatters to `scatter_rows`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from tm_export.exporters.dialect import REDUCTIONS, scatter_rows
from tm_export.exporters.retrace import Values, arguments, keywords, value_of
from tm_export.exporters.rules.base import No, Rule
from tm_export.exporters.rules.rows import RowIndex, as_rows, from_last, row_index, to_last

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
        base, dim, index = arguments(node)[:3]
        assert isinstance(base, fx.Node) and isinstance(dim, int) and isinstance(index, fx.Node)
        shape, index_shape = value_of(base).shape, value_of(index).shape
        if not shape:
            return No("a scalar has no rows")
        dim %= len(shape)
        if any(a != b for d, (a, b) in enumerate(zip(shape, index_shape, strict=True)) if d != dim):
            return No("the index covers a part of the other dimensions only")
        reduce = _reduce_of(node)
        if reduce not in REDUCTIONS:
            return No(f'reduce="{reduce}" is not known')
        include = bool(node.kwargs.get("include_self", arguments(node)[5] if len(arguments(node)) > 5 else True))
        return Scatter(dim, reduce, include, row_index(index, dim))

    def rewrite(self, node: fx.Node, match: Scatter, values: Values) -> Any:
        """Scatter rows, and give the result the shape of the base."""
        base, index = values(arguments(node)[0]), values(arguments(node)[2])
        src = values(arguments(node)[3]) if len(arguments(node)) > 3 else keywords(node)["value"]
        if not isinstance(src, Tensor):
            src = torch.full(index.shape, src, dtype=base.dtype)
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
        rows = scatter_rows(
            moved.reshape(-1, moved.shape[-1], 1),
            to_last(index, match.dim).reshape(-1, index.shape[match.dim]),
            to_last(src, match.dim).reshape(-1, index.shape[match.dim], 1),
            match.reduce,
            match.include_base,
        )
        return from_last(rows.reshape(moved.shape), match.dim)


def _reduce_of(node: fx.Node) -> str:
    if node.target in (aten.scatter.src, aten.scatter.value):
        return "set"
    if node.target is aten.scatter_add.default:
        return "sum"
    name = str(node.kwargs.get("reduce", arguments(node)[4] if len(arguments(node)) > 4 else ""))
    return _NAMES.get(name, name)
