"""Views as reshapes and slices: of all ways to write a view, those are the two that the delegate takes."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import fx

from tm_export.exporters.graph.nodes import arguments, value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule

aten = torch.ops.aten


class ViewByReshape(Rule[None]):
    """Replaces unsqueeze, squeeze and flatten.

    Before::

        y = unsqueeze(x, 1)

    After::

        y = reshape(x, [shape of y])
    """

    name: ClassVar[str] = "xnnpack::view_by_reshape"
    pattern = frozenset({
        aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default, aten.flatten.using_ints,
    })  # fmt: skip

    def check(self, node: fx.Node) -> No | None:
        """Always."""
        return None

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """The same elements in the same order."""
        return values(arguments(node)[0]).reshape(value_of(node).shape)


class SelectBySlice(Rule[None]):
    """Replaces the selection of one position of a dimension.

    Before::

        y = select(x, dim, i)

    After::

        y = reshape(slice(x, dim, i, i + 1), [shape of y])
    """

    name: ClassVar[str] = "xnnpack::select_by_slice"
    pattern = frozenset({aten.select.int})

    def check(self, node: fx.Node) -> No | None:
        """Always."""
        return None

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """A slice of size 1 without its dimension."""
        x, dim, index = values(tuple(arguments(node)[:3]))
        return x.narrow(dim, index % x.shape[dim], 1).reshape(value_of(node).shape)


class UnbindBySlices(Rule[int]):
    """Replaces unbind.

    Before::

        a, b, … = unbind(x, dim)

    After::

        a = reshape(slice(x, dim, 0, 1), [shape of a]);  b = …
    """

    name: ClassVar[str] = "xnnpack::unbind_by_slices"
    pattern = frozenset({aten.unbind.int})

    def check(self, node: fx.Node) -> int | No:
        """Always; the dimension."""
        dim = arguments(node)[1] if len(arguments(node)) > 1 else 0
        assert isinstance(dim, int)
        return dim

    def rewrite(self, node: fx.Node, match: int, values: Values) -> Any:
        """One slice for each position."""
        x = values(arguments(node)[0])
        parts = node.meta["val"]
        return [x.narrow(match, i, 1).reshape(part.shape) for i, part in enumerate(parts)]
