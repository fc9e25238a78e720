"""Raise the choice of the best score in a row to `best`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.dialect import best
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule
from tm_export.exporters.merging.raising.rows import to_last

aten = torch.ops.aten


@dataclass(frozen=True)
class Choice:
    """The dimension chosen along, whether it stays with size 1, and which end is best."""

    dim: int
    keepdim: bool
    largest: bool


class RaiseBest(Rule[Choice]):
    """Replaces max, min, argmax and argmin over a dimension with `amax` and `best`.

    Before::

        value, index = max(scores, dim)

    After::

        value = amax(scores, dim)        index = best(scores_BMN)

    The value and the index part ways because most forms of merging compute one without the other.
    """

    name = "merge::raise_best"
    pattern = frozenset({aten.max.dim, aten.min.dim, aten.argmax.default, aten.argmin.default})

    def check(self, node: fx.Node) -> Choice | No:
        """Refuse only the choice over a whole flattened tensor."""
        given = bound_arguments(node)
        rank = value_of(given["self"]).dim()
        if given["dim"] is None or rank == 0:
            return No("the choice is over all elements, not along a dimension")
        largest = node.target in (aten.max.dim, aten.argmax.default)
        return Choice(from_front(given["dim"], rank), given["keepdim"], largest)

    def rewrite(self, node: fx.Node, match: Choice, values: Values) -> Any:
        """`best` over the rows, and `amax` or `amin` where the value is asked for."""
        x = values(bound_arguments(node)["self"])
        moved = to_last(x, match.dim)
        rows = moved.shape[-2] if moved.dim() > 1 else 1
        scores_BMN = moved.reshape(math.prod(moved.shape[:-2]), rows, moved.shape[-1])
        if scores_BMN.dtype is torch.bool:
            scores_BMN = scores_BMN.to(torch.int32)
        index = best(scores_BMN, match.largest).reshape(moved.shape[:-1])
        if match.keepdim:
            index = index.unsqueeze(match.dim)
        if node.target in (aten.argmax.default, aten.argmin.default):
            return index
        extreme: Tensor = (x.amax if match.largest else x.amin)(match.dim, match.keepdim)
        return extreme, index
