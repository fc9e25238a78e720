"""Where rows of tokens come from and where they end up, for each operation that moves them, and how many they are."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import fx

from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.constants import constant_of
from tm_export.exporters.graph.dialect import DECISIONS, GATHER_ROWS, PAIR_MEAN, PAIR_REPEAT, SCATTER_ROWS
from tm_export.exporters.graph.nodes import arguments, is_float, slice_of, value_of
from tm_export.exporters.graph.token_axis import Axis, axes_behind, einsum_letters

aten = torch.ops.aten

_VIEWS: Final = {
    aten.slice.Tensor, aten.reshape.default, aten.view.default, aten._unsafe_view.default, aten.unsqueeze.default,
    aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default, aten.select.int, aten.split.Tensor,
    aten.split_with_sizes.default, aten.unbind.int, aten.clone.default, aten.contiguous.default, aten.alias.default,
    aten.index.Tensor, aten.index_select.default, aten.permute.default, aten.transpose.int, aten.chunk.default,
    aten.narrow.default, aten.flatten.using_ints,
}  # fmt: skip
_RESHAPES: Final = {aten.reshape.default, aten.view.default, aten._unsafe_view.default, aten.flatten.using_ints}
_ON_THE_WAY: Final = _VIEWS | {aten.cat.default, aten.div.Tensor, aten.mul.Tensor, aten.where.self, aten.stack.default}
"""What follows a move and still belongs to it: views, the parts put together, a division by sizes."""

PRODUCTS: Final = {aten.matmul.default, aten.bmm.default, aten.mm.default, aten.einsum.default}
WEIGHED_SUMS: Final = (aten.add.Tensor, aten.sum.dim_IntList)
_MIXING: Final = PRODUCTS | {
    aten.linear.default, aten.addmm.default, aten.baddbmm.default, aten.scaled_dot_product_attention.default,
}  # fmt: skip


@dataclass(frozen=True)
class Move:
    """An operation that moves rows of tokens.

    Attributes:
        node: the operation.
        origins: the values that the rows were taken from, as they were computed, by the dimensions that count rows.
        ends: the values that the rows end up in.
        before: how many rows the largest origin has, in each batch row.
        after: the same of the largest end.
    """

    node: fx.Node
    origins: tuple[Axis, ...]
    ends: tuple[Axis, ...]
    before: int
    after: int


def move_of(node: fx.Node, batch: int) -> Move | None:
    """What a dialect operation moves; None for indices, scores and sizes of a single channel, and rows of constants.

    `batch` is how many choices are made side by side: where rows of several are counted in one dimension, flattened,
    they are told apart by it.
    """
    if node.target not in (GATHER_ROWS, SCATTER_ROWS, PAIR_MEAN, PAIR_REPEAT) or not is_float(node):
        return None
    if value_of(node).shape[-1] == 1:
        return None
    is_one_of_batch = any(_picks_one(source) for source, _ in _sources(node))
    side_by_side = 1 if is_one_of_batch else max(1, batch // max(1, value_of(node).shape[0]))
    origins = [
        origin for source in _sources(node) if constant_of((origin := _origin(source, side_by_side)).axis[0]) is None
    ]
    return _move(node, origins, _ends(_Rows((node, 1), side_by_side), _ON_THE_WAY)) if origins else None


@dataclass(frozen=True)
class _Rows:
    """A dimension that counts rows, of so many batch rows side by side."""

    axis: Axis
    batch: int

    @property
    def count(self) -> int:
        """Rows of each batch row."""
        node, dim = self.axis
        return value_of(node).shape[dim] // self.batch


def product_move_of(node: fx.Node) -> Move | None:
    """The move that a matrix product is: of a matrix that says where tokens go, times rows of tokens.

    Merging written as a product, as Token Transforming, ToMA and k-means have it: [n, N] of where each token goes,
    times the tokens [N, C]. The matrix follows from decisions, or it weighs the tokens by their own products with fewer
    of them. A product with what was computed from tokens otherwise is none: attention is one of those.
    """
    if node.target not in PRODUCTS:
        return None
    found = _of_einsum(node) if node.target is aten.einsum.default else _of_matmul(node)
    if found is None:
        return None
    tokens, channels, end = found
    if value_of(tokens[0]).shape[channels] == 1:  # sizes, or scores
        return None
    return _move(node, [_origin(tokens, 1)], _ends(_Rows((_with_what_was_there(node), end), 1), _ON_THE_WAY))


def weighed_move_of(node: fx.Node) -> Move | None:
    """The move that a weighed sum of neighbours is, without a product::

    a * x[:, ::2] + b * x[:, 1::2]                          each half of all rows, with a weight of its own
    (w.softmax(2) * x.unflatten(1, (N // 4, 4))).sum(2)     rows in groups, whose weights sum to one
    """
    if node.target not in WEIGHED_SUMS:
        return None
    axis = _halves_summed(node) if node.target is aten.add.Tensor else _groups_summed(node)
    shape = value_of(node).shape
    if axis is None or axis[1] >= len(shape) - 1 or shape[-1] == 1:  # channels, sizes, or scores
        return None
    return _move(node, [_origin(axis, 1)], _ends(_Rows((node, axis[1]), 1), _ON_THE_WAY))


def _halves_summed(node: fx.Node) -> Axis | None:
    factors = [_factors(term) for term in node.all_input_nodes]
    if len(factors) != 2 or not all(factors):
        return None
    cuts = [[slice_of(each) for each in own if each.target is aten.slice.Tensor] for own in factors]
    for one in cuts[0]:
        for other in cuts[1]:
            covers = one.step == other.step == 2 and {one.start, other.start} == {0, 1}
            if covers and one.source is other.source and one.dim == other.dim and len(one) == len(other):
                return one.source, one.dim
    return None


def _groups_summed(node: fx.Node) -> Axis | None:
    if node.target is not aten.sum.dim_IntList:
        return None
    dims: list[int] = bound_arguments(node)["dim"] or []
    if len(dims) != 1:
        return None
    product = bound_arguments(node)["self"]
    rank = value_of(product).dim()
    dim = from_front(dims[0], rank)
    for tokens in _factors(product):
        others = [each for each in _factors(product) if each is not tokens]
        is_cut = tokens.target in _RESHAPES | {aten.unflatten.int} and value_of(tokens).dim() == rank and dim > 0
        if not is_cut or not any(_sums_to_one(each, dim - rank) for each in others):
            continue
        source = tokens.all_input_nodes[0]
        rows = value_of(tokens).shape[dim - 1] * value_of(tokens).shape[dim]
        if value_of(source).dim() == rank - 1 and value_of(source).shape[dim - 1] == rows:
            return source, dim - 1
    return None


def _factors(node: fx.Node) -> list[fx.Node]:
    return list(node.all_input_nodes) if node.target is aten.mul.Tensor else []


def _sums_to_one(node: fx.Node, dim: int) -> bool:
    """Whether weights are a softmax along a dimension, counted from the last."""
    while node.target in (aten.unsqueeze.default, aten.expand.default):
        if node.target is aten.unsqueeze.default:
            rank = value_of(node).dim()
            added = from_front(bound_arguments(node)["dim"], rank) - rank
            dim += 1 if added > dim else 0
        node = node.all_input_nodes[0]
    is_softmax = node.target in (aten.softmax.int, aten._softmax.default)
    return is_softmax and from_front(bound_arguments(node)["dim"], value_of(node).dim()) == value_of(node).dim() + dim


def _of_matmul(node: fx.Node) -> tuple[Axis, int, int] | None:
    """The tokens by the dimension that counts them, that of their channels, and what counts rows of the result."""
    left, right = arguments(node)[:2]
    ranks = [value_of(value).dim() for value in (left, right, node)]
    if min(ranks) < 2:
        return None
    if _assigns(left, right) and not _assigns(right, left):
        return (right, ranks[1] - 2), ranks[1] - 1, ranks[2] - 2
    if _assigns(right, left) and not _assigns(left, right):
        return (left, ranks[0] - 1), ranks[0] - 2, ranks[2] - 1
    return None


def _of_einsum(node: fx.Node) -> tuple[Axis, int, int] | None:
    letters, operands = einsum_letters(node), arguments(node)[1]
    if letters is None or len(operands) != 2:
        return None
    assigning = [_assigns(*operands), _assigns(*reversed(operands))]
    if assigning[0] is assigning[1]:
        return None
    at = int(assigning[0])
    (own, other), result = (letters[0][at], letters[0][1 - at]), letters[1]
    summed = [x for x in own if x in other and x not in result]
    channels = [x for x in own if x not in other and x in result]
    places = [x for x in other if x not in own and x in result]
    if len(summed) != 1 or not channels or len(places) != 1:
        return None
    return (operands[at], own.index(summed[0])), own.index(channels[-1]), result.index(places[0])


def _with_what_was_there(node: fx.Node) -> fx.Node:
    """The sum of a product and the rows that others are merged into, if it is one."""
    users = list(node.users)
    is_sum = len(users) == 1 and users[0].target is aten.add.Tensor and value_of(users[0]).shape == value_of(node).shape
    return users[0] if is_sum else node


def _move(node: fx.Node, origins: list[_Rows], ends: list[_Rows]) -> Move:
    return Move(
        node,
        tuple(rows.axis for rows in origins),
        tuple(rows.axis for rows in ends),
        max(rows.count for rows in origins),
        max(rows.count for rows in ends),
    )


def _sources(node: fx.Node) -> Iterator[Axis]:
    """What the rows are taken from; rows that are overwritten go nowhere."""
    given = bound_arguments(node)
    if node.target is not SCATTER_ROWS:
        source = arguments(node)[0]
        assert isinstance(source, fx.Node)
        yield source, 1
        return
    yield given["src_BKC"], 1
    if given["reduce"] != "set":
        yield given["base_BMC"], 1


def _origin(axis: Axis, batch: int) -> _Rows:
    """Go back over views, slices and earlier choices of rows to where a tensor was computed."""
    node, dim = axis
    while node.target in _VIEWS or node.target is GATHER_ROWS or "getitem" in str(node.target):
        behind = [(arguments(node)[0], 1)] if node.target is GATHER_ROWS and dim == 1 else axes_behind(node, dim)
        behind = [step for step in behind if is_float(step[0])]
        if not behind:
            break
        source, own = behind[-1]  # of dimensions that are joined the innermost: before it stands the batch
        if node.target in _RESHAPES:
            joined = value_of(node).shape[dim] // max(1, value_of(source).shape[own])
            if joined not in (1, batch):
                break  # rows of several frames, or windows, are counted together here
            batch //= joined
        node, dim = source, own
    return _Rows((node, dim), batch)


def _picks_one(node: fx.Node) -> bool:
    """Whether a view is of a single batch row, as in a loop over the batch."""
    while node.target in _VIEWS or "getitem" in str(node.target):
        if node.target in (aten.select.int, aten.unbind.int):
            return True
        source = arguments(node)[0]
        assert isinstance(source, fx.Node)
        node = source
    return False


def view_origin(node: fx.Node) -> fx.Node:
    """The tensor that rows are a view of, along whatever dimension."""
    return _origin((node, 1), 1).axis[0]


def _ends(rows: _Rows, on_the_way: Set[Any]) -> list[_Rows]:
    """Go on over such operators, views and concatenations among them, to the tensors that the rows end up in."""
    ends, stack, seen = [], [rows], {rows.axis[0]}
    while stack:
        current = stack.pop()
        onward = [step for user in current.axis[0].users if (step := _onward(current, user, on_the_way)) is not None]
        fresh = [step for step in onward if step.axis[0] not in seen]
        seen.update(step.axis[0] for step in fresh)
        stack += fresh
        if len(onward) < len(current.axis[0].users) or not onward:
            ends.append(current)
    return ends


def _onward(rows: _Rows, user: fx.Node, on_the_way: Set[Any]) -> _Rows | None:
    """The dimension of a user that counts the same rows, if it still belongs to the move."""
    node, dim = rows.axis
    if not is_float(user) or not (user.target in on_the_way or user.target is SCATTER_ROWS):
        return None
    if user.target is SCATTER_ROWS:
        return _Rows((user, 1), rows.batch)
    found = [d for d in range(value_of(user).dim()) if (node, dim) in axes_behind(user, d)]
    if not found:
        return None
    batch = rows.batch
    if user.target in _RESHAPES:
        parts = value_of(node).shape[dim] // max(1, value_of(user).shape[found[-1]])
        if parts not in (1, batch) or value_of(user).shape[found[-1]] > value_of(node).shape[dim]:
            return None
        batch //= parts
    return _Rows((user, found[-1]), batch)


def _assigns(matrix: fx.Node, tokens: fx.Node) -> bool:
    """Whether a matrix says where these tokens go; a straight-through one does in one of its terms."""
    if matrix.target in (aten.add.Tensor, aten.sub.Tensor):
        return any(_assigns(term, tokens) for term in matrix.all_input_nodes)
    return _is_assignment(matrix) or _is_weighing(matrix, tokens)


_WEIGHTS: Final = _VIEWS | {
    aten.softmax.int, aten._softmax.default, aten.div.Tensor, aten.div.Scalar, aten.mul.Tensor, aten.mul.Scalar,
    aten.exp.default, aten.where.self, aten.masked_fill.Scalar, aten.relu.default, aten.sub.Tensor,
}  # fmt: skip
_SAME_TOKENS: Final = _VIEWS | {
    aten.div.Tensor, aten.mul.Tensor, aten.layer_norm.default, aten.rms_norm.default, aten.mean.dim,
    aten.avg_pool1d.default, aten.adaptive_avg_pool1d.default, aten.unflatten.int,
}  # fmt: skip


def _is_weighing(matrix: fx.Node, tokens: fx.Node) -> bool:
    """Whether a matrix is weights that are learned of each token, or products of some tokens with fewer of the same.

    `mlp(x).mT.softmax(-1)` weighs x, and so does `(x[:, ::4] @ x.mT).softmax(1)`. Attention projects its queries, keys
    and values. What weighs tokens to merge them weighs others to bring them back.
    """
    is_weighed = False
    while matrix.target in _WEIGHTS:
        is_weighed |= matrix.target in (aten.softmax.int, aten._softmax.default, aten.div.Tensor)
        matrix = matrix.all_input_nodes[0]
    if not is_weighed:
        return False
    if matrix.target not in (aten.matmul.default, aten.bmm.default):
        return _is_learned_of(matrix, _stream(tokens))
    one, other = (value_of(operand) for operand in arguments(matrix)[:2])
    rows = sorted((one.shape[-2], other.shape[-1])) if min(one.dim(), other.dim()) > 1 else [0, 0]
    stream, *others = {_stream(operand) for operand in arguments(matrix)[:2]}
    if others or not 1 < rows[0] < rows[1]:
        return False
    return _stream(tokens) is stream or any(_stream(other) is stream for other in _weighed_by(matrix))


_LEARNED: Final = _SAME_TOKENS | {
    aten.linear.default, aten.conv1d.default, aten.conv2d.default, aten.gelu.default, aten.relu.default,
    aten.silu.default, aten.tanh.default, aten.sigmoid.default, aten.softmax.int, aten.add.Tensor,
}  # fmt: skip


def _is_learned_of(weights: fx.Node, tokens: fx.Node) -> bool:
    """Whether layers on each of these tokens make the weights."""
    node = weights
    while node is not tokens and (node.target in _LEARNED or "getitem" in str(node.target)):
        node = node.all_input_nodes[0]
    return node is tokens and weights is not tokens


def _weighed_by(scores: fx.Node) -> Iterator[fx.Node]:
    """What is multiplied by weights that are made of these scores."""
    stack, seen = [scores], {scores}
    while stack:
        node = stack.pop()
        for user in node.users:
            if user.target in PRODUCTS:
                yield from (source for source in user.all_input_nodes if source is not node)
            elif user.target in _WEIGHTS and user not in seen:
                seen.add(user)
                stack.append(user)


def _stream(node: fx.Node) -> fx.Node:
    """The tensor that tokens are of, before they were normalised, cut or averaged."""
    while node.target in _SAME_TOKENS or "getitem" in str(node.target):
        node = node.all_input_nodes[0]
    return node


def _is_assignment(node: fx.Node) -> bool:
    """Whether a matrix says where tokens go: it follows from decisions by comparisons and casts, and from no tokens."""
    stack, seen, decided = [node], {node}, False
    while stack:
        current = stack.pop()
        if current.target in DECISIONS:
            decided = True
            continue
        if current.op == "placeholder":
            if constant_of(current) is None and is_float(current):
                return False
            continue
        moves_tokens = current.target is GATHER_ROWS and constant_of(arguments(current)[0]) is None
        if current.target in _MIXING - PRODUCTS or (moves_tokens and is_float(current)):
            return False
        stack += [source for source in current.all_input_nodes if source not in seen]
        seen.update(current.all_input_nodes)
    return decided
