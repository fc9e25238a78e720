"""Operators that some converter knows only under another name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, fx

from tm_export.exporters.retrace import Values, arguments, value_of
from tm_export.exporters.rules.base import No, Rule

aten = torch.ops.aten

_LOGICAL: Final[dict[Any, Callable[..., Tensor]]] = {
    aten.bitwise_or.Tensor: torch.logical_or,
    aten.bitwise_and.Tensor: torch.logical_and,
    aten.bitwise_xor.Tensor: torch.logical_xor,
    aten.bitwise_not.default: torch.logical_not,
}


class CastByCopy(Rule[None]):
    """Replaces the casts `x.to(dtype)`, `x.to(other)` and `x.type_as(other)` by the one that all converters know."""

    name: ClassVar[str] = "spelling::cast_by_copy"
    pattern = frozenset({aten.to.dtype, aten.to.dtype_layout, aten.to.device, aten.to.other, aten.type_as.default})

    def check(self, node: fx.Node) -> No | None:
        """Always."""
        return None

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """A copy in the new dtype; none where it has it already."""
        x = values(arguments(node)[0])
        dtype = value_of(node).dtype
        return x if x.dtype == dtype else aten._to_copy.default(x, dtype=dtype)


class ViewBySpelling(Rule[None]):
    """Replaces flatten, unflatten, mT and the like, which are reshapes and transpositions."""

    name: ClassVar[str] = "spelling::view"
    pattern = frozenset({aten.flatten.using_ints, aten.unflatten.int, aten.view_as.default, aten.reshape_as.default})

    def check(self, node: fx.Node) -> No | None:
        """Always."""
        return None

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """The same elements in the same order."""
        return values(arguments(node)[0]).reshape(value_of(node).shape)


class TransposeBySpelling(Rule[None]):
    """Replaces mT, mH, t and the like by a transposition of the last two dimensions."""

    name: ClassVar[str] = "spelling::transpose"
    pattern = frozenset({aten.mT.default, aten.t.default, aten.numpy_T.default})

    def check(self, node: fx.Node) -> No | None:
        """Matrices only."""
        rank = value_of(node).dim()
        return None if rank == 2 or (rank > 2 and node.target is aten.mT.default) else No("no matrix")

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """The last two dimensions exchanged."""
        return values(arguments(node)[0]).transpose(-2, -1)


class LogicalBySpelling(Rule[None]):
    """Replaces `a | b` and the like of truth values: coremltools knows them as logical_or, not as bitwise_or."""

    name: ClassVar[str] = "spelling::logical"
    pattern = frozenset(_LOGICAL)

    def check(self, node: fx.Node) -> No | None:
        """Truth values only."""
        return None if value_of(node).dtype == torch.bool else No("integers")

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """The logical operator."""
        return _LOGICAL[node.target](*values(tuple(arguments(node))))


SPELLING: Final = (CastByCopy(), ViewBySpelling(), TransposeBySpelling(), LogicalBySpelling())
