"""Drop operators that do nothing: views to the shape a tensor has, slices of all of it, copies, casts to its dtype."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.nodes import arguments, value_of
from tm_export.exporters.graph.retrace import KEEP, Values, retrace

aten = torch.ops.aten

_SAME_IF_SAME_SHAPE: Final = {
    aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.expand.default, aten.slice.Tensor,
    aten.repeat.default, aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default,
}  # fmt: skip
_SAME_IF_SAME_DTYPE: Final = {
    aten.to.dtype, aten.to.dtype_layout, aten._to_copy.default, aten.alias.default, aten.clone.default,
    aten.contiguous.default, aten.detach.default, aten.detach_.default, aten.lift_fresh_copy.default,
    aten.dropout.default,  # in evaluation: capture takes apart one that was written to train
    aten.type_as.default, aten.to.device, aten.to.other,
}  # fmt: skip
_VIEWS: Final = {aten.view.default, aten.reshape.default, aten._unsafe_view.default}
# These take no more than a shape from their input; written without it they are constants.
_FULL: Final[dict[Any, float | None]] = {
    aten.ones_like.default: 1, aten.zeros_like.default: 0, aten.full_like.default: None,
    aten.new_ones.default: 1, aten.new_zeros.default: 0, aten.new_full.default: None,
}  # fmt: skip
_PERMUTATIONS: Final = {aten.permute.default, aten.transpose.int}


def simplify(program: ExportedProgram) -> ExportedProgram:
    """Return the program without operators that change nothing, and with chains of views or permutations made one."""
    return retrace(program, simplified)


def simplified(node: fx.Node, values: Values) -> Any:
    """The value of a node that does nothing, or less than it says; `KEEP` for all others.

    A translator that lets a node be answers with this instead of `KEEP`, and saves a pass.
    """
    if node.op != "call_function":
        return KEEP
    if node.target in _FULL:
        value = value_of(node)
        known = _FULL[node.target]
        number = bound_arguments(node)["fill_value"] if known is None else known
        return torch.full(value.shape, number, dtype=value.dtype)
    source = arguments(node)[0] if arguments(node) else None
    if not isinstance(source, fx.Node) or not all(isinstance(n.meta.get("val"), Tensor) for n in (node, source)):
        return KEEP
    before, after = value_of(source), value_of(node)
    if node.target in _SAME_IF_SAME_SHAPE and before.shape == after.shape:
        return values(source)
    if node.target in _SAME_IF_SAME_DTYPE and before.dtype == after.dtype:
        return values(source)
    if node.target in _VIEWS:
        while source.target in _VIEWS:
            source = arguments(source)[0]
        viewed = values(source)
        return viewed if viewed.shape == after.shape else viewed.reshape(after.shape)
    if node.target in _PERMUTATIONS:
        return _simplified_permutation(node, source, values)
    return KEEP


def _simplified_permutation(node: fx.Node, source: fx.Node, values: Values) -> Any:
    if _moves_only_ones(node):
        return values(source).reshape(value_of(node).shape)
    if source.target not in _PERMUTATIONS:
        return KEEP
    outer, inner = _permutation(node), _permutation(source)
    order = [inner[d] for d in outer]
    origin = values(arguments(source)[0])
    return origin if order == list(range(len(order))) else origin.permute(order)


def _permutation(node: fx.Node) -> list[int]:
    """Which dimension of its input each dimension of a permutation is."""
    rank = value_of(node).dim()
    if node.target is aten.permute.default:
        return [from_front(d, rank) for d in bound_arguments(node)["dims"]]
    given, order = bound_arguments(node), list(range(rank))
    a, b = from_front(given["dim0"], rank), from_front(given["dim1"], rank)
    order[a], order[b] = b, a
    return order


def _moves_only_ones(node: fx.Node) -> bool:
    """Whether the dimensions larger than 1 keep their order: nothing moves in memory."""
    shape = value_of(arguments(node)[0]).shape
    larger = [d for d in _permutation(node) if shape[d] != 1]
    return larger == sorted(larger)
