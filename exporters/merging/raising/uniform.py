"""Find out that a tensor is the same all along a dimension, and compute just one slice of it.

People expand an index over the channels because `gather` wants it so. The rules need the index before it was
expanded; this walks back through the graph to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.constants import constant_of
from tm_export.exporters.graph.nodes import arguments, operator_of, value_of
from tm_export.exporters.graph.retrace import Values

Narrowed = Callable[[Values], Tensor]
"""Computes a tensor that has size 1 along the dimension in question, from the values of the graph."""

aten = torch.ops.aten

_SAME_SHAPE = {
    aten.clone.default, aten.contiguous.default, aten.to.dtype, aten._to_copy.default, aten.alias.default,
    aten.neg.default, aten.detach.default, aten.lift_fresh_copy.default, aten.to.dtype_layout,
    aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.add.Scalar, aten.sub.Scalar, aten.mul.Scalar,
    aten.remainder.Scalar, aten.floor_divide.default, aten.where.self, aten.clamp.default,
    aten.minimum.default, aten.maximum.default, aten.div.Tensor_mode, aten.div.Tensor,
    aten.rsub.Scalar, aten.gather.default,
}  # fmt: skip


def narrow(node: fx.Node, dim: int) -> Narrowed | None:
    """How to compute `node` cut to size 1 along `dim`, if it is the same all along; else None."""
    shape = value_of(node).shape
    dim = from_front(dim, len(shape))
    if not shape or not shape[dim]:
        return None
    if shape[dim] == 1:
        return lambda values: _tensor(values(node))
    if (constant := constant_of(node)) is not None:
        same = (constant == constant.take([0], axis=dim)).all()
        return (lambda values: _tensor(values(node)).narrow(dim, 0, 1)) if same else None
    if node.op != "call_function":
        return None
    if node.target is aten.expand.default:
        return _narrow_expand(node, dim)
    if node.target is aten.repeat.default:
        return _narrow_repeat(node, dim)
    if node.target is aten.unsqueeze.default:
        at = from_front(bound_arguments(node)["dim"], len(shape))
        return _apply(node, dim, dim - (dim > at))
    if node.target in (aten.slice.Tensor, aten.cat.default):
        return _narrow_along(node, dim)
    if node.target is aten.transpose.int:
        given = bound_arguments(node)
        a, b = (from_front(given[name], len(shape)) for name in ("dim0", "dim1"))
        return _apply(node, dim, {a: b, b: a}.get(dim, dim))
    if node.target is aten.permute.default:
        return _apply(node, dim, from_front(bound_arguments(node)["dims"][dim], len(shape)))
    if node.target is aten.gather.default and from_front(bound_arguments(node)["dim"], len(shape)) == dim:
        return None
    if node.target in _SAME_SHAPE:
        return _narrow_elementwise(node, dim)
    return None


def _tensor(value: Any) -> Tensor:
    assert isinstance(value, Tensor)
    return value


def _apply(node: fx.Node, dim: int, source_dim: int) -> Narrowed | None:
    """Narrow the first argument along `source_dim`, then do what the node does."""
    inner = narrow(bound_arguments(node)["self"], source_dim)
    if inner is None:
        return None
    return lambda values: _tensor(operator_of(node)(inner(values), *arguments(node)[1:], **node.kwargs))


def _narrow_expand(node: fx.Node, dim: int) -> Narrowed | None:
    source = bound_arguments(node)["self"]
    shape, source_shape = value_of(node).shape, value_of(source).shape
    source_dim = dim - (len(shape) - len(source_shape))
    sizes = [1 if d == dim else size for d, size in enumerate(shape)]
    if source_dim < 0:
        return lambda values: _tensor(values(source)).expand(sizes)
    inner = narrow(source, source_dim)
    return None if inner is None else (lambda values: inner(values).expand(sizes))


def _narrow_repeat(node: fx.Node, dim: int) -> Narrowed | None:
    given = bound_arguments(node)
    source, repeats = given["self"], given["repeats"]
    source_dim = dim - (len(repeats) - value_of(source).dim())
    sizes = [1 if d == dim else int(times) for d, times in enumerate(repeats)]
    if source_dim < 0:
        return lambda values: _tensor(values(source)).repeat(sizes)
    inner = narrow(source, source_dim)
    return None if inner is None else (lambda values: inner(values).repeat(sizes))


def _narrow_along(node: fx.Node, dim: int) -> Narrowed | None:
    """A slice or concatenation: along another dimension it goes on; along this one a slice changes nothing."""
    rank = value_of(node).dim()
    given = bound_arguments(node)
    at = from_front(given["dim"], rank)
    if node.target is aten.slice.Tensor:
        return narrow(given["self"], dim) if at == dim else _apply(node, dim, dim)
    if at == dim:
        return None
    parts = [narrow(part, dim) for part in given["tensors"]]
    if any(part is None for part in parts):
        return None
    return lambda values: torch.cat([part(values) for part in parts if part is not None], at)


def _narrow_elementwise(node: fx.Node, dim: int) -> Narrowed | None:
    rank = value_of(node).dim()
    inner: dict[fx.Node, Narrowed] = {}
    for argument in node.all_input_nodes:
        own_dim = dim - (rank - value_of(argument).dim())
        if own_dim < 0:
            continue
        narrowed = narrow(argument, own_dim)
        if narrowed is None:
            return None
        inner[argument] = narrowed

    def compute(values: Values) -> Tensor:
        def value(argument: fx.Node) -> Any:
            return inner[argument](values) if argument in inner else values(argument)

        args, kwargs = fx.node.map_arg((arguments(node), node.kwargs), value)
        return _tensor(operator_of(node)(*args, **kwargs))

    return compute
