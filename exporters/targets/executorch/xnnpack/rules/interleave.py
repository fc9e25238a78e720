"""Channel pairs exchanged by slicing and stacking, as one product: how a rotary position turns them."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from tm_export.exporters.graph.nodes import arguments, slice_of, value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule

aten = torch.ops.aten


class StackBySelection(Rule[fx.Node]):
    """Replaces a stack of strided slices of one tensor, negated or not.

    Before::

        y = stack([neg(slice(x, -1, 1, K, 2)), slice(x, -1, 0, K, 2)], -1)        [..., K/2, 2]

    After::

        y = reshape(linear(x, M), [..., K/2, 2])

    Each channel of y is ± one channel of x, so M has one ±1 in each row. K is the width of a head: the product costs
    less than the copies, and stays in the delegate.
    """

    name: ClassVar[str] = "xnnpack::stack_by_selection"
    pattern = frozenset({aten.stack.default})

    def check(self, node: fx.Node) -> fx.Node | No:
        """All parts come from one tensor by slicing its last dimension; they are stacked behind it."""
        parts = arguments(node)[0]
        dim = arguments(node)[1] if len(arguments(node)) > 1 else 0
        assert isinstance(parts, list | tuple) and isinstance(dim, int)
        if dim % value_of(node).dim() != value_of(node).dim() - 1:
            return No("not stacked behind the last dimension")
        sources = {_sliced(part) for part in parts if isinstance(part, fx.Node)}
        if len(sources) != 1 or None in sources:
            return No("not slices of one tensor's last dimension")
        (source,) = sources
        assert source is not None
        return source

    def rewrite(self, node: fx.Node, match: fx.Node, values: Values) -> Any:
        """The matrix is what the slices make of the unit vectors."""
        x = values(match)
        units = torch.eye(x.shape[-1])
        matrix = torch.stack([_apply(part, units) for part in arguments(node)[0]], -1).flatten(1)
        return F.linear(x, matrix.T.contiguous()).reshape(value_of(node).shape)


def _sliced(part: fx.Node) -> fx.Node | None:
    """The tensor whose last dimension `part` is a slice of, negated or not."""
    if part.target is aten.neg.default:
        return _sliced(arguments(part)[0])
    if part.target is not aten.slice.Tensor:
        return None
    cut = slice_of(part)
    return cut.source if cut.dim == value_of(cut.source).dim() - 1 else None


def _apply(part: fx.Node, rows: Tensor) -> Tensor:
    if part.target is aten.neg.default:
        return -_apply(arguments(part)[0], rows)
    cut = slice_of(part)
    return rows[:, cut.start : cut.end : cut.step]
