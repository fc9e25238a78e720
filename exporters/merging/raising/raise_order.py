"""Raise sorting to `order`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.dialect import gather_rows, order
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule
from tm_export.exporters.merging.raising.rows import from_last, to_last

aten = torch.ops.aten


@dataclass(frozen=True)
class Sorting:
    """The dimension that is sorted, how many come out, and which way."""

    dim: int
    k: int
    descending: bool


class RaiseOrder(Rule[Sorting]):
    """Replaces argsort, sort and topk with one operation that returns the first k indices.

    Before::

        index = argsort(keys, dim, descending=True)        values, index = topk(keys, k, dim)

    After::

        index = order(keys_BN, k, descending)              values = gather_rows(keys_BN1, index)

    Core ML lacks a stable sort and ExecuTorch any sort at all; both have topk, which this becomes again.
    """

    name = "merge::raise_order"
    pattern = frozenset({
        aten.argsort.default, aten.argsort.stable, aten.sort.default, aten.sort.stable, aten.topk.default,
        aten.msort.default,
    })  # fmt: skip

    def check(self, node: fx.Node) -> Sorting | No:
        """Read dimension, count and direction from the arguments of any of the operators."""
        given = bound_arguments(node)
        shape = value_of(given["self"]).shape
        if not shape:
            return No("a scalar has no order")
        dim = from_front(given.get("dim", 0), len(shape))  # msort has no `dim`: it sorts along the first
        descending = given["largest"] if node.target is aten.topk.default else given.get("descending", False)
        return Sorting(dim, given.get("k", shape[dim]), descending)

    def rewrite(self, node: fx.Node, match: Sorting, values: Values) -> Any:
        """`order` over the rows, and the sorted values where they are asked for."""
        x = to_last(values(bound_arguments(node)["self"]), match.dim)
        keys_BN = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
        index_BK = order(keys_BN, match.k, match.descending)
        shape = (*x.shape[:-1], match.k)

        def back(rows_BK: Tensor) -> Tensor:
            return from_last(rows_BK.reshape(shape), match.dim)

        if node.target in (aten.argsort.default, aten.argsort.stable):
            return back(index_BK)
        sorted_BK = back(gather_rows(keys_BN.unsqueeze(-1), index_BK).squeeze(-1))
        return sorted_BK if node.target is aten.msort.default else (sorted_BK, back(index_BK))
