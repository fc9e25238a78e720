"""Raise the mean of neighbouring pairs, and its repeat, to `pair_mean` and `pair_repeat`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.dialect import pair_mean, pair_repeat
from tm_export.exporters.graph.nodes import is_float, slice_of, value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule
from tm_export.exporters.merging.raising.rows import as_rows

aten = torch.ops.aten


@dataclass(frozen=True)
class Pairs:
    """The tensor whose neighbours pair up along `dim`, from its front up to `length`."""

    source: fx.Node
    dim: int
    length: int


class RaisePairMean(Rule[Pairs]):
    """Replaces the mean of two strided slices.

    Before::

        y = div(add(slice(x, dim, 0, T, 2), slice(x, dim, 1, T, 2)), 2)

    After::

        y = pair_mean(x_BTC)

    Strided slices stay outside a CPU delegate; the pairs are whole rows of a view, which does not.
    """

    name = "merge::raise_pair_mean"
    pattern = frozenset({aten.div.Tensor, aten.mul.Tensor, aten.mul.Scalar, aten.div.Scalar})

    def check(self, node: fx.Node) -> Pairs | No:
        """Half of a sum of the even and the odd slice of one tensor."""
        given = bound_arguments(node)
        total, factor = given["self"], given["other"]
        half = 2 if node.target in (aten.div.Tensor, aten.div.Scalar) else 0.5
        if factor != half or total.target is not aten.add.Tensor or not is_float(total):
            return No("not half of a sum")
        summands = bound_arguments(total)
        parts = [
            slice_of(part)
            for part in (summands["self"], summands["other"])
            if isinstance(part, fx.Node) and part.target is aten.slice.Tensor
        ]
        if len(parts) != 2 or parts[0].source is not parts[1].source or summands["alpha"] != 1:
            return No("not a sum of two slices of one tensor")
        even, odd = sorted(parts, key=lambda cut: cut.start)
        if (even.dim, even.step, even.start, odd.start) != (odd.dim, 2, 0, 1) or odd.step != 2:
            return No("not the even and the odd rows")
        if len(even) != len(odd):
            return No("not as many odd rows as even ones")
        return Pairs(even.source, even.dim, 2 * len(even))

    def rewrite(self, node: fx.Node, match: Pairs, values: Values) -> Any:
        """Means of neighbouring rows."""
        x = values(match.source).narrow(match.dim, 0, match.length)
        return pair_mean(as_rows(x, match.dim)).reshape(value_of(node).shape)


class RaisePairRepeat(Rule[int]):
    """Replaces `repeat_interleave(x, 2, dim)` with `pair_repeat(x_BTC)`."""

    name = "merge::raise_pair_repeat"
    pattern = frozenset({aten.repeat_interleave.self_int})

    def check(self, node: fx.Node) -> int | No:
        """Two repeats along a dimension."""
        given = bound_arguments(node)
        if given["repeats"] != 2 or given["dim"] is None or not value_of(given["self"]).dim():
            return No("not two repeats along a dimension")
        return from_front(given["dim"], value_of(node).dim())

    def rewrite(self, node: fx.Node, match: int, values: Values) -> Any:
        """Each row twice."""
        return pair_repeat(as_rows(values(bound_arguments(node)["self"]), match)).reshape(value_of(node).shape)
