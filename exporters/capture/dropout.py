"""Dropout that is active in evaluation, as a product with a mask that export draws once."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import fx

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule

aten = torch.ops.aten


class DropoutByMask(Rule[float]):
    """Replaces dropout that a module applies in evaluation too, as Monte Carlo dropout does.

    Before::

        y, kept = native_dropout(x, p, train=True)

    After::

        kept = bernoulli(empty(x.shape), 1 − p)         reads no input, and so becomes a constant, drawn from the seed
        y = x · kept / (1 − p)
    """

    name: ClassVar[str] = "dropout::by_mask"
    pattern = frozenset({aten.native_dropout.default})

    def check(self, node: fx.Node) -> float | No:
        """Active, and of less than everything."""
        given = bound_arguments(node)
        if given["train"] is False or not 0 <= given["p"] < 1:
            return No("drops nothing, or all")
        return float(given["p"])

    def rewrite(self, node: fx.Node, match: float, values: Values) -> Any:
        """The product, and the mask."""
        source = bound_arguments(node)["input"]
        x, like = values(source), value_of(source)
        kept = aten.bernoulli.p(torch.empty(like.shape, dtype=like.dtype), 1 - match)
        return x * (kept / (1 - match)), kept > 0
