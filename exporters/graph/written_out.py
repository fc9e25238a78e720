"""A rule for operators that are written out in others: a table of formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule

Formula = Callable[..., Any]
"""Computes an operator's value from its arguments, in the order of its schema, in ordinary PyTorch."""


class WrittenOut(Rule[None]):
    """Replaces operators by their formulas.

    `formulas` says how each is computed. `unless` looks at a node and says why it can stay as it is, or nothing.
    """

    def __init__(
        self, name: str, formulas: Mapping[OpOverload, Formula], unless: Callable[[fx.Node], str] = lambda _node: ""
    ) -> None:
        self.name = name  # type: ignore[misc]  # each table is a rule of its own
        self.pattern = frozenset(formulas)  # type: ignore[misc]
        self._formulas = formulas
        self._unless = unless

    def check(self, node: fx.Node) -> No | None:
        """Wherever nothing speaks against it."""
        reason = self._unless(node)
        return No(reason) if reason else None

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """What the formula makes of the arguments."""
        assert isinstance(node.target, OpOverload)
        return self._formulas[node.target](*values(tuple(bound_arguments(node).values())))


def as_tensor(x: Tensor | float, dtype: torch.dtype) -> Tensor:
    """A tensor or number as a tensor of this dtype; `torch.tensor` would leave an attribute in the graph."""
    if isinstance(x, Tensor):
        return x if x.dtype == dtype else x.to(dtype)
    return torch.full((), x, dtype=dtype)
