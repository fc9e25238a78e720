"""Between which whole numbers the entries of a tensor lie, as far as the operators that made it say.

An index that counts from the end must be counted from the front before rows are moved by it; keys that are whole
numbers can be told apart by position where they are equal. Both need to know how small and how large a number can be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.constants import constant_of
from tm_export.exporters.graph.dialect import BEST, GATHER_ROWS, ORDER, SCATTER_ROWS
from tm_export.exporters.graph.nodes import value_of

aten = torch.ops.aten


@dataclass(frozen=True)
class Bounds:
    """All entries are whole numbers from `low` to `high`."""

    low: int
    high: int

    def __or__(self, other: Bounds) -> Bounds:
        return Bounds(min(self.low, other.low), max(self.high, other.high))


UNBOUNDED: Final = Bounds(-(2**1024), 2**1024)
"""Whole numbers, of which no more is known; floats are no larger."""

_Known = Callable[[Any], Bounds | None]


def bounds_of(node: fx.Node) -> Bounds | None:
    """The bounds of a tensor of whole numbers; None for one of floats whose entries may not be whole.

    Of integers whose origin says no more, they are those of the dtype.
    """
    found: dict[fx.Node, Bounds | None] = {}

    def known(argument: Any) -> Bounds | None:
        """The bounds of an argument: a node, or a number."""
        if isinstance(argument, fx.Node):
            return found[argument] if argument in found else _fitting(argument, _of_constant(argument))
        whole = isinstance(argument, bool | int) or (isinstance(argument, float) and argument.is_integer())
        return Bounds(int(argument), int(argument)) if whole else None

    for needed in _in_order(node):
        found[needed] = _fitting(needed, _bounds_of_call(needed, known))
    return found[node]


def _in_order(node: fx.Node) -> list[fx.Node]:
    """The node and all that it follows from through operators that are known here, sources first."""
    ordered: dict[fx.Node, None] = {}
    stack = [(node, False)]
    while stack:
        current, is_left = stack.pop()
        if is_left:
            ordered[current] = None
        elif current not in ordered:
            stack.append((current, True))
            if current.target in _CALCULATED or current.target in _SELECTED:
                stack += [(source, False) for source in current.all_input_nodes]
    return list(ordered)


def _of_constant(node: fx.Node) -> Bounds | None:
    constant = constant_of(node)
    if constant is None or not (np.isfinite(constant).all() and (constant == np.trunc(constant)).all()):
        return None
    return Bounds(int(constant.min()), int(constant.max())) if constant.size else Bounds(0, 0)


def _fitting(node: fx.Node, bounds: Bounds | None) -> Bounds | None:
    """The bounds, where the node's dtype holds all whole numbers within them; integers beyond them wrap around."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.is_complex():
        return None
    low, high = exact_range(value.dtype)
    if bounds is not None and low <= bounds.low and bounds.high <= high:
        return bounds
    if value.is_floating_point():
        return None if bounds is None else UNBOUNDED  # rounded, but to whole numbers
    return Bounds(low, high)


def exact_range(dtype: torch.dtype) -> tuple[int, int]:
    """The whole numbers that a dtype has all of."""
    if dtype.is_floating_point:
        most = round(2 / torch.finfo(dtype).eps)
        return -most, most
    if dtype is torch.bool:
        return 0, 1
    info = torch.iinfo(dtype)
    return int(info.min), int(info.max)


def _bounds_of_call(node: fx.Node, known: _Known) -> Bounds | None:
    if constant_of(node) is not None:
        return _of_constant(node)
    if not isinstance(node.target, OpOverload):
        return _of_part(node)
    if node.target in _CALCULATED:
        return _CALCULATED[node.target](bound_arguments(node), known)
    if node.target in _SELECTED:
        given = bound_arguments(node)
        return _union([known(given[name]) for name in _SELECTED[node.target]])
    if node.target in _ROUNDING:
        return UNBOUNDED
    if node.target in _POSITIONS:
        return _positions(node)
    return None


def _positions(node: fx.Node) -> Bounds:
    """Of an index: the positions along the dimension that was searched, or in the whole tensor."""
    given = bound_arguments(node)
    source = value_of(next(iter(given.values())))
    dim = given.get("dim", -1)
    count = source.numel() if dim is None or not source.dim() else source.shape[from_front(dim, source.dim())]
    return Bounds(0, max(count - 1, 0))


def _of_part(node: fx.Node) -> Bounds | None:
    """Of the indices among the results of a sort."""
    if "getitem" not in str(node.target):
        return None
    source, part = node.args
    return _positions(source) if isinstance(source, fx.Node) and source.target in _SORTING and part == 1 else None


def _union(parts: Sequence[Bounds | None]) -> Bounds | None:
    total: Bounds | None = None
    for part in parts:
        if part is None:
            return None
        total = part if total is None else total | part
    return total


def _products(a: Bounds, b: Bounds) -> Bounds:
    corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    return Bounds(min(corners), max(corners))


def _sum(given: dict[str, Any], known: _Known) -> Bounds | None:
    return _scaled_sum(given, known, 1)


def _difference(given: dict[str, Any], known: _Known) -> Bounds | None:
    return _scaled_sum(given, known, -1)


def _scaled_sum(given: dict[str, Any], known: _Known, sign: int) -> Bounds | None:
    a, b, alpha = known(given["self"]), known(given["other"]), known(given["alpha"])
    if a is None or b is None or alpha is None:
        return None
    scaled = _products(b, Bounds(sign * alpha.low, sign * alpha.low))
    return Bounds(a.low + scaled.low, a.high + scaled.high)


def _turned_difference(given: dict[str, Any], known: _Known) -> Bounds | None:
    """Of `other - alpha * self`."""
    return _difference({**given, "self": given["other"], "other": given["self"]}, known)


def _product(given: dict[str, Any], known: _Known) -> Bounds | None:
    a, b = known(given["self"]), known(given["other"])
    return None if a is None or b is None else _products(a, b)


def _negative(given: dict[str, Any], known: _Known) -> Bounds | None:
    a = known(given["self"])
    return None if a is None else Bounds(-a.high, -a.low)


def _magnitude(given: dict[str, Any], known: _Known) -> Bounds | None:
    a = known(given["self"])
    return None if a is None else Bounds(max(a.low, -a.high, 0), max(a.high, -a.low))


def _quotient(given: dict[str, Any], known: _Known) -> Bounds | None:
    a, b = known(given["self"]), known(given["other"])
    rounds = given.get("rounding_mode", "floor") == "floor"
    if a is None or b is None or b.low <= 0 or not rounds:
        return None
    corners = [x // y for x in (a.low, a.high) for y in (b.low, b.high)]
    return Bounds(min(corners), max(corners))


def _remainder(given: dict[str, Any], known: _Known) -> Bounds | None:
    a, b = known(given["self"]), known(given["other"])
    return None if a is None or b is None or b.low <= 0 else Bounds(0, b.high - 1)


def _between(given: dict[str, Any], known: _Known) -> Bounds | None:
    low, high = given.get("min"), given.get("max")
    least, most, a = known(low), known(high), known(given["self"])
    if (low is not None and least is None) or (high is not None and most is None):
        return None
    if a is None:
        return None
    if least is not None:
        a = Bounds(max(a.low, least.low), max(a.high, least.high))
    if most is not None:
        a = Bounds(min(a.low, most.low), min(a.high, most.high))
    return a


def _counted(given: dict[str, Any], known: _Known) -> Bounds | None:
    """Of a sum over any number of entries."""
    a = known(given["self"])
    count = math.prod(value_of(given["self"]).shape)
    return None if a is None else Bounds(min(a.low, a.low * count, 0), max(a.high, a.high * count, 0))


def _scattered(given: dict[str, Any], known: _Known) -> Bounds | None:
    if given["reduce"] not in ("set", "amax", "amin"):
        return None
    return _union([known(given["base_BMC"]), known(given["src_BKC"])])


def _concatenated(given: dict[str, Any], known: _Known) -> Bounds | None:
    return _union([known(part) for part in given["tensors"]])


_CALCULATED: Final[dict[Any, Callable[[dict[str, Any], _Known], Bounds | None]]] = {
    aten.add.Tensor: _sum,
    aten.add.Scalar: _sum,
    aten.sub.Tensor: _difference,
    aten.sub.Scalar: _difference,
    aten.rsub.Scalar: _turned_difference,
    aten.mul.Tensor: _product,
    aten.mul.Scalar: _product,
    aten.neg.default: _negative,
    aten.abs.default: _magnitude,
    aten.floor_divide.default: _quotient,
    aten.div.Tensor_mode: _quotient,
    aten.remainder.Scalar: _remainder,
    aten.remainder.Tensor: _remainder,
    aten.clamp.default: _between,
    aten.clamp_min.default: _between,
    aten.clamp_max.default: _between,
    aten.sum.dim_IntList: _counted,
    aten.sum.default: _counted,
    aten.cumsum.default: _counted,
    SCATTER_ROWS: _scattered,
    aten.cat.default: _concatenated,
    aten.stack.default: _concatenated,
}

_OF_ITSELF: Final = (
    aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.expand.default, aten.repeat.default,
    aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default, aten.slice.Tensor,
    aten.select.int, aten.transpose.int, aten.permute.default, aten.flip.default, aten.roll.default,
    aten.clone.default, aten.contiguous.default, aten.alias.default, aten.detach.default, aten.to.dtype,
    aten.to.dtype_layout, aten._to_copy.default, aten.to.other, aten.type_as.default, aten.lift_fresh_copy.default,
    aten.gather.default, aten.index.Tensor, aten.index_select.default, aten.take_along_dim.default,
    aten.amax.default, aten.amin.default, aten.repeat_interleave.self_int,
)  # fmt: skip

_SELECTED: Final[dict[Any, tuple[str, ...]]] = {
    **dict.fromkeys(_OF_ITSELF, ("self",)),
    GATHER_ROWS: ("x_BNC",),
    aten.where.self: ("self", "other"),
    aten.where.ScalarSelf: ("self", "other"),
    aten.where.ScalarOther: ("self", "other"),
    aten.minimum.default: ("self", "other"),
    aten.maximum.default: ("self", "other"),
    aten.masked_fill.Scalar: ("self", "value"),
}
"""Operators whose results are entries of these arguments."""

_ROUNDING: Final = {
    aten.round.default, aten.floor.default, aten.ceil.default, aten.trunc.default, aten.sign.default,
}  # fmt: skip
_SORTING: Final = {
    aten.topk.default, aten.sort.default, aten.sort.stable, aten.max.dim, aten.min.dim,
}  # fmt: skip
_POSITIONS: Final = {
    ORDER, BEST, aten.argmax.default, aten.argmin.default, aten.argsort.default, aten.argsort.stable,
}  # fmt: skip
