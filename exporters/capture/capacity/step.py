"""One operator of a program some of whose elements may not be in use: what it is given, and what it makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, fx

from tm_export.exporters.capture.capacity.places import Carried, along, known, united, varying
from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.retrace import KEEP, Values
from tm_export.exporters.graph.user_line import source_line


@dataclass(frozen=True)
class Made:
    """A node's value, or `KEEP`, and the places of its elements; of several results, of each."""

    carried: Carried | tuple[Carried, ...]
    value: Any = KEEP


@dataclass(frozen=True)
class Step:
    """A call, the values of its inputs, and the places of their elements."""

    node: fx.Node
    values: Values
    carried: Mapping[fx.Node, Carried]

    @property
    def given(self) -> dict[str, Any]:
        """The arguments by name."""
        return bound_arguments(self.node)

    def places(self, argument: Any) -> Carried:
        """Of an argument's elements; none of one that is no tensor."""
        return self.carried.get(argument, ()) if isinstance(argument, fx.Node) else ()

    def places_free_of(self, argument: fx.Node, dims: frozenset[int], reason: str) -> Carried:
        """The same, refused if they vary along one of these dimensions."""
        if along(self.places(argument), dims):
            self.refuse(reason)
        return self.places(argument)

    def places_but_along(self, argument: fx.Node, dims: frozenset[int]) -> Carried:
        """Those that do not vary along these dimensions; refused if one varies along these and others together."""
        kept = []
        for each in self.places(argument):
            with known():
                found = varying(each.place)
            if found.isdisjoint(dims):
                kept.append(each)
            elif not found <= dims:
                self.refuse("tokens and something else are in one dimension by then")
        return tuple(kept)

    def dim(self, argument: fx.Node, name: str = "dim") -> int:
        """A dimension that is given by name, counted from the front of that argument's."""
        return from_front(self.given[name], value_of(argument).dim())

    def call(self, /, **other: Any) -> Any:
        """Call the operator with other arguments by name; the rest are the node's own."""
        assert callable(self.node.target)
        return self.node.target(**{name: self.values(value) for name, value in self.given.items()} | other)

    def call_known(self, replaced: Mapping[fx.Node, Tensor]) -> Any:
        """Call it on whole numbers that are known now, in the place of its tensors."""
        assert callable(self.node.target)
        with known():
            args, kwargs = fx.node.map_arg((self.node.args, self.node.kwargs), lambda node: replaced[node].contiguous())
            return self.node.target(*args, **kwargs)

    def refuse(self, reason: str) -> NoReturn:
        """Raise `ConversionRefused` at the user's line."""
        raise ConversionRefused(
            f"{str(self.node.target).removesuffix('.default')} at {source_line(self.node)} cannot follow a selection "
            f"with a capacity: {reason}. Choose a fixed number of tokens (topk with a constant k), or write that line "
            "in other operators"
        )


Handler = Callable[[Step], Made]


def each_of(handler: Handler, *operators: Any) -> dict[Any, Handler]:
    """The same handler for each operator."""
    return dict.fromkeys(operators, handler)


def like(carried: Carried, node: fx.Node, first: Callable[[Tensor], Tensor]) -> Carried:
    """The places `first` takes of each, broadcast to the shape of a node's value."""
    shape = tuple(value_of(node).shape)
    with known():
        return united([type(each)(each.used_S, first(each.place).expand(shape)) for each in carried])


def lowest(dtype: torch.dtype) -> float | int | bool:
    """What every number of a dtype is at least."""
    if dtype == torch.bool:
        return False
    return -math.inf if dtype.is_floating_point else max(torch.iinfo(dtype).min, -(2**31))


def highest(dtype: torch.dtype) -> float | int | bool:
    """What every number of a dtype is at most."""
    if dtype == torch.bool:
        return True
    return math.inf if dtype.is_floating_point else min(torch.iinfo(dtype).max, 2**31 - 1)
