"""The arguments of a call by name, however they were given."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from torch import fx
from torch._C import Argument
from torch._ops import OpOverload

_REQUIRED: Final = object()


def bound_arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of the call that `node` makes, by the names in the operator's schema, defaults filled in.

    `aten.slice(x, 1, step=2)` gives `{"self": x, "dim": 1, "start": None, "end": None, "step": 2}`, whichever of these
    were written by position. No rule counts positions: the same operator comes with more or fewer of them.
    """
    assert isinstance(node.target, OpOverload), node
    names, defaults = _parameters(node.target)
    given = {**defaults, **dict(zip(names, node.args, strict=False)), **node.kwargs}
    missing = [name for name in names if given[name] is _REQUIRED]
    assert not missing, f"{node.target} is called without {', '.join(missing)}"
    return given


def from_front(dim: int, rank: int) -> int:
    """The dimension counted from the front; a scalar's only one is 0."""
    return dim % max(rank, 1)


@cache
def _parameters(called: OpOverload) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The names of an operator's parameters in order, and their default values."""
    parameters: list[Argument] = called._schema.arguments
    return (
        tuple(parameter.name for parameter in parameters),
        {p.name: p.default_value if p.has_default_value() else _REQUIRED for p in parameters},
    )
