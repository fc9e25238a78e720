"""Follow one dimension of a value, such as the one that counts tokens, through the operators of a graph."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.dialect import BEST, GATHER_ROWS, ORDER, PAIR_MEAN, PAIR_REPEAT, SCATTER_ROWS
from tm_export.exporters.graph.nodes import value_of

aten = torch.ops.aten

Axis = tuple[fx.Node, int]
"""A dimension of a node's value, counted from the front."""


def axes_behind(node: fx.Node, dim: int) -> list[Axis]:
    """The dimensions of a node's inputs that its dimension `dim` is: of as many rows, or of those it is a part of.

    A reshape that joins dimensions is followed to each that it joins. There are none where the dimension is made of
    something else, as the columns of a product with a weight are.
    """
    if node.op != "call_function":
        return []
    follow = _BEHIND.get(node.target, _by_broadcasting)
    return follow(node, dim)


def _rank(node: fx.Node) -> int:
    value = node.meta.get("val")
    return value.dim() if isinstance(value, Tensor) else 0


def _by_broadcasting(node: fx.Node, dim: int) -> list[Axis]:
    """An operator by element, a norm, a softmax, a sum: dimensions from the back, where sizes agree."""
    value = node.meta.get("val")
    first = value[0] if isinstance(value, list | tuple) and value else value
    if not isinstance(first, Tensor):
        return []
    found = []
    for source in node.all_input_nodes:
        own = dim - (first.dim() - _rank(source))
        if isinstance(source.meta.get("val"), Tensor) and own >= 0 and value_of(source).shape[own] == first.shape[dim]:
            found.append((source, own))
    return found


def _same(node: fx.Node, dim: int) -> list[Axis]:
    """The first input's own dimension: a slice, an expansion, a choice of rows."""
    source = node.all_input_nodes[0]
    own = dim - (_rank(node) - _rank(source))
    return [(source, own)] if own >= 0 else []


def _permuted(node: fx.Node, dim: int) -> list[Axis]:
    given = bound_arguments(node)
    rank = _rank(node)
    if "dims" in given:
        return [(given["self"], from_front(given["dims"][dim], rank))]
    if "dim0" not in given:
        return [(given["self"], rank - 1 - dim)]
    a, b = from_front(given["dim0"], rank), from_front(given["dim1"], rank)
    return [(given["self"], {a: b, b: a}.get(dim, dim))]


def _reshaped(node: fx.Node, dim: int) -> list[Axis]:
    """The input's dimensions that lie within the same stretch of elements, or that this one is a part of."""
    source = bound_arguments(node)["self"]
    before, after = value_of(source).shape, value_of(node).shape
    start, end = _prefix(after, dim), _prefix(after, dim + 1)
    within = [d for d in range(len(before)) if start <= _prefix(before, d) and _prefix(before, d + 1) <= end]
    within = [d for d in within if before[d] > 1]
    if within or end == start:
        return [(source, d) for d in within]
    if after[dim] == 1:
        return []
    # A part of a larger dimension: the innermost counts rows, as in [B, N, C] of [B · N, C]; a last one's are channels.
    return [
        (source, d) for d in range(len(before) - 1) if _prefix(before, d) <= start and end == _prefix(before, d + 1)
    ]


def _prefix(shape: Sequence[int], dim: int) -> int:
    product = 1
    for size in shape[:dim]:
        product *= size
    return product


def _unsqueezed(node: fx.Node, dim: int) -> list[Axis]:
    given = bound_arguments(node)
    at = from_front(given["dim"], _rank(node))
    return [] if dim == at else [(given["self"], dim - (dim > at))]


def _selected(node: fx.Node, dim: int) -> list[Axis]:
    given = bound_arguments(node)
    at = from_front(given["dim"], _rank(given["self"]))
    return [(given["self"], dim + (dim >= at))]


def _item(node: fx.Node, dim: int) -> list[Axis]:
    """One of several results: of a split, which has the dimensions of what it splits, or one fewer after `unbind`."""
    made = node.args[0]
    assert isinstance(made, fx.Node)
    if made.target is aten.unbind.int:
        return _selected(made, dim)
    source = made.all_input_nodes[0]
    is_split = made.target in (aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default)
    if is_split or _rank(source) == _rank(node):
        return [(source, dim)] if _rank(source) == _rank(node) else []
    return []


def _indexed(node: fx.Node, dim: int) -> list[Axis]:
    """Rows at positions along one dimension."""
    given = bound_arguments(node)
    indexed = [at for at, index in enumerate(given["indices"]) if index is not None]
    is_plain = len(indexed) == 1 and _rank(given["indices"][indexed[0]]) == 1
    return [(given["self"], dim)] if is_plain else []


def _joined(node: fx.Node, dim: int) -> list[Axis]:
    return [(part, dim) for part in node.all_input_nodes]


def _stacked(node: fx.Node, dim: int) -> list[Axis]:
    at = from_front(bound_arguments(node)["dim"], _rank(node))
    return [] if dim == at else [(part, dim - (dim > at)) for part in node.all_input_nodes]


def _reduced(node: fx.Node, dim: int) -> list[Axis]:
    """A sum, a mean or an extreme over some dimensions."""
    given = bound_arguments(node)
    source, dims = given["self"], given.get("dim")
    rank = _rank(source)
    gone = {from_front(d, rank) for d in (dims if isinstance(dims, list | tuple) else [dims]) if d is not None}
    kept = [d for d in range(rank) if given.get("keepdim") or d not in gone] if gone else []
    return [(source, kept[dim])] if dim < len(kept) and kept[dim] not in gone else []


def _product(node: fx.Node, dim: int) -> list[Axis]:
    """Rows come from the left, columns from the right, the batch from both."""
    left, right = (source for source in node.args[-2:] if isinstance(source, fx.Node))
    from_back = _rank(node) - 1 - dim
    has_rows, has_columns = _rank(left) > 1, _rank(right) > 1
    if has_columns and from_back == 0:
        return [(right, _rank(right) - 1)]
    if has_rows and from_back == (1 if has_columns else 0):
        return [(left, _rank(left) - 2)]
    beyond = from_back + (not has_rows) + (not has_columns)
    sources = [(source, _rank(source) - 1 - beyond) for source in (left, right)]
    return [(source, d) for source, d in sources if d >= 0 and value_of(source).shape[d] == value_of(node).shape[dim]]


def _linear(node: fx.Node, dim: int) -> list[Axis]:
    source = bound_arguments(node)["input"]
    return [(source, dim)] if dim < _rank(node) - 1 else []


def einsum_letters(node: fx.Node) -> tuple[list[str], str] | None:
    """The letters of each operand of an einsum, and of its result; None with an ellipsis, or without `->`."""
    equation = str(bound_arguments(node)["equation"]).replace(" ", "")
    if "." in equation or "->" not in equation:
        return None
    operands, result = equation.split("->")
    return operands.split(","), result


def _einsum(node: fx.Node, dim: int) -> list[Axis]:
    letters = einsum_letters(node)
    if letters is None:
        return []
    operands, result = letters
    sources = bound_arguments(node)["tensors"]
    return [(s, own.index(result[dim])) for s, own in zip(sources, operands, strict=True) if result[dim] in own]


def _attention(node: fx.Node, dim: int) -> list[Axis]:
    given = bound_arguments(node)
    rank = _rank(node)
    if dim == rank - 1:
        return [(given["value"], rank - 1)]
    if dim == rank - 2:
        return [(given["query"], rank - 2)]
    return [(given[name], dim) for name in ("query", "key", "value")]


def _rows(node: fx.Node, dim: int) -> list[Axis]:
    """Rows that move keep their batch and their channels; which rows they are is the decision's business."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return [(source, dim)] if dim != 1 or node.target is SCATTER_ROWS else []


def _nothing(node: fx.Node, dim: int) -> list[Axis]:
    return []


_BEHIND: Final[dict[Any, Callable[[fx.Node, int], list[Axis]]]] = {
    aten.permute.default: _permuted, aten.transpose.int: _permuted, aten.t.default: _permuted,
    aten.reshape.default: _reshaped, aten.view.default: _reshaped, aten._unsafe_view.default: _reshaped,
    aten.flatten.using_ints: _reshaped, aten.unflatten.int: _reshaped, aten.squeeze.dim: _reshaped,
    aten.squeeze.dims: _reshaped, aten.squeeze.default: _reshaped, aten.unsqueeze.default: _unsqueezed,
    aten.select.int: _selected, aten.slice.Tensor: _same, aten.narrow.default: _same, aten.expand.default: _same,
    aten.index_select.default: _same, aten.repeat.default: _same, operator.getitem: _item,
    aten.cat.default: _joined, aten.stack.default: _stacked,
    aten.sum.dim_IntList: _reduced, aten.mean.dim: _reduced, aten.amax.default: _reduced, aten.amin.default: _reduced,
    aten.linear.default: _linear, aten.einsum.default: _einsum, aten.matmul.default: _product,
    aten.bmm.default: _product, aten.mm.default: _product,
    aten.addmm.default: _product, aten.baddbmm.default: _product,
    aten.scaled_dot_product_attention.default: _attention,
    aten.embedding.default: _nothing, aten.conv2d.default: _nothing, aten.conv3d.default: _nothing,
    aten.conv1d.default: _nothing, aten.gather.default: _nothing, aten.index.Tensor: _indexed,
    ORDER: _nothing, BEST: _nothing, GATHER_ROWS: _rows, SCATTER_ROWS: _rows, PAIR_MEAN: _rows, PAIR_REPEAT: _rows,
}  # fmt: skip
