"""Operators that some converter knows only under another name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.nodes import arguments, keywords, value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule

aten = torch.ops.aten

_LOGICAL: Final[dict[Any, Callable[..., Tensor]]] = {
    aten.__or__.Tensor: torch.logical_or,
    aten.__and__.Tensor: torch.logical_and,
    aten.__xor__.Tensor: torch.logical_xor,
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


class ClampByComparison(Rule[None]):
    """Replaces a clamp at one side, or of integers: coremltools asserts equal types of number and tensor."""

    name: ClassVar[str] = "spelling::clamp"
    pattern = frozenset({aten.clamp_min.default, aten.clamp_max.default, aten.clamp.default})

    def check(self, node: fx.Node) -> No | None:
        """All but the clamp of floats, which has an operator."""
        if node.target is aten.clamp.default and value_of(node).is_floating_point():
            return No("a clamp of floats")
        return None if value_of(node).dtype == value_of(arguments(node)[0]).dtype else No("the type changes")

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """The larger of each number and the lower bound, the smaller of that and the upper bound."""
        x, *bounds = values(tuple(arguments(node)))
        names = ("max",) if node.target is aten.clamp_max.default else ("min", "max")
        given = keywords(node) | dict(zip(names, bounds, strict=False))
        lower, upper = given.get("min"), given.get("max")
        x = x if lower is None else torch.maximum(x, torch.full((), lower, dtype=x.dtype))
        return x if upper is None else torch.minimum(x, torch.full((), upper, dtype=x.dtype))


class PadByNumbers(Rule[None]):
    """Replaces padding of truth values: coremltools pads them as numbers and leaves them so.

    A mask for attention, which hides what is false, then becomes numbers that are added: converted silently wrong.
    """

    name: ClassVar[str] = "spelling::pad"
    pattern = frozenset({aten.constant_pad_nd.default, aten.pad.default})

    def check(self, node: fx.Node) -> No | None:
        """Truth values, padded with a constant."""
        if value_of(node).dtype != torch.bool:
            return No("numbers")
        mode = keywords(node).get("mode", "constant")
        named = [mode, *(argument for argument in arguments(node) if isinstance(argument, str))]
        return None if set(named) == {"constant"} else No("not with a constant")

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """Padded as numbers, and compared."""
        x, pad, *rest = values(tuple(arguments(node)))
        given = [*rest, keywords(node).get("value")]
        value = next((number for number in given if isinstance(number, bool | int | float)), 0)
        return aten.constant_pad_nd.default(x.to(torch.float32), pad, float(value)) > 0.5


class CosineByProducts(Rule[None]):
    """Replaces a cosine of angles: coremltools wants its epsilon, which the graph leaves out where it is the default.

    It also bounds the product of the two norms from below, PyTorch each of them.
    """

    name: ClassVar[str] = "spelling::cosine"
    pattern = frozenset({aten.cosine_similarity.default})

    def check(self, node: fx.Node) -> No | None:
        """Always."""
        return None

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """The sum of the products over the product of the norms, neither norm less than epsilon."""
        x, y, *rest = values(tuple(arguments(node)))
        given = {"dim": 1, "eps": 1e-8} | dict(zip(("dim", "eps"), rest, strict=False)) | dict(keywords(node))
        dim, least = given["dim"], torch.full((), given["eps"], dtype=x.dtype)
        norms = [torch.maximum((each * each).sum(dim).sqrt(), least) for each in (x, y)]
        return (x * y).sum(dim) / (norms[0] * norms[1])


SPELLING: Final = (
    PadByNumbers(),
    CastByCopy(),
    LogicalBySpelling(),
    ClampByComparison(),
    CosineByProducts(),
)
