"""Products: rows keep their places, and what is summed over is zero where it is not in use; attention has a mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from tm_export.exporters.capture.capacity.places import (
    Carried,
    along,
    filled,
    has_always,
    known,
    mask_of,
    moved,
    united,
)
from tm_export.exporters.capture.capacity.step import Handler, Made, Step, each_of, like, lowest
from tm_export.exporters.graph.nodes import value_of

aten = torch.ops.aten

_CHANNELS: Final = "tokens are its channels"


def _linear(step: Step) -> Made:
    source = step.node.all_input_nodes[0]
    last = value_of(source).dim() - 1
    if any(step.places(node) for node in step.node.all_input_nodes[1:]):
        step.refuse("its weights are tokens")
    carried = step.places_free_of(source, frozenset({last}), _CHANNELS)
    return Made(like(carried, step.node, lambda place: place[..., :1]))


def _product(step: Step) -> Made:
    one, other = step.given["self"], step.given["other" if "other" in step.given else "mat2"]
    ranks = value_of(one).dim(), value_of(other).dim()
    sums = ranks[0] - 1, max(ranks[1] - 2, 0)
    rows = step.places_but_along(one, frozenset({sums[0]}))
    columns = step.places_but_along(other, frozenset({sums[1]}))

    def of_rows(place: Tensor) -> Tensor:
        first = place[..., :1]
        return first[..., 0] if ranks[1] == 1 else first

    def of_columns(place: Tensor) -> Tensor:
        if ranks[1] == 1:
            return place[:1]
        first = place[..., :1, :]
        return first[..., 0, :] if ranks[0] == 1 else first

    carried = (*like(rows, step.node, of_rows), *like(columns, step.node, of_columns))
    values = [
        filled(step.values(node), along(step.places(node), frozenset({dim})), 0)
        for node, dim in zip((one, other), sums, strict=True)
    ]
    assert callable(step.node.target)
    with known():
        together = united(carried)
    return Made(together, step.node.target(*values))


def _distances(step: Step) -> Made:
    one, other = step.given["x1"], step.given["x2"]
    last = value_of(one).dim() - 1
    rows = step.places_free_of(one, frozenset({last}), _CHANNELS)
    columns = step.places_free_of(other, frozenset({last}), _CHANNELS)
    carried = (
        *like(rows, step.node, lambda place: place[..., :1]),
        *like(columns, step.node, lambda place: place[..., :1].transpose(-1, -2)),
    )
    with known():
        return Made(united(carried))


def _attention(step: Step) -> Made:
    given = step.given
    query, key, value, bias = given["query"], given["key"], given["value"], given["attn_mask"]
    rank = value_of(query).dim()
    channels, tokens = frozenset({rank - 1}), frozenset({rank - 2})
    for node in (query, key, value):
        step.places_free_of(node, channels, _CHANNELS)
    step.places_but_along(value, tokens)
    keys = _keys(along(united((*step.places(key), *step.places(value))), tokens))
    used = seen = mask_of(keys)
    rows = like(step.places(query), step.node, lambda place: place[..., :1])
    batches = [
        each
        for node in (key, value)
        for each in like(step.places_but_along(node, tokens), step.node, lambda place: place[..., :1, :1])
    ]
    with known():
        carried = united([*rows, *batches])
    if used is None or seen is None:
        return Made(carried)
    size = value_of(query).shape[-2], value_of(key).shape[-2]
    if given["is_causal"]:
        seen = seen & torch.ones(size, dtype=torch.bool).tril()
    if bias is not None:
        own = step.values(bias)
        seen = own & seen if own.dtype == torch.bool else filled(own, keys, lowest(own.dtype))
    attended = step.call(attn_mask=seen, is_causal=False)
    if has_always(keys):
        return Made(carried, attended)
    is_any = used.any(-1, keepdim=True)  # attention to nothing gives zeros
    return Made(carried, torch.where(is_any, attended, torch.zeros((), dtype=attended.dtype)))


def _keys(carried: Carried) -> Carried:
    """Places of keys [..., S, C] as those of scores [..., 1, S]."""
    return moved(carried, lambda place: place[..., :1].transpose(-1, -2))


def _convolution(step: Step) -> Made:
    source = step.node.all_input_nodes[0]
    dims = frozenset(range(1, value_of(source).dim()))
    carried = step.places_free_of(source, dims, "tokens are its channels or its pixels")
    with known():
        rows = [type(each)(each.used_S, each.place[(slice(None), *(slice(0, 1) for _ in dims))]) for each in carried]
    return Made(like(tuple(rows), step.node, lambda place: place))


def _normalised_by_channel(step: Step) -> Made:
    source = step.node.all_input_nodes[0]
    return Made(step.places_free_of(source, frozenset({1}), _CHANNELS))


MULTIPLYING: Final[Mapping[Any, Handler]] = {
    aten.linear.default: _linear,
    **each_of(_product, aten.matmul.default, aten.mm.default, aten.bmm.default),
    **each_of(_distances, aten.cdist.default, aten._cdist_forward.default),
    aten.scaled_dot_product_attention.default: _attention,
    **each_of(
        _convolution,
        aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, aten.convolution.default,
        aten.conv1d.padding, aten.conv2d.padding,
    ),
    **each_of(_normalised_by_channel, aten.batch_norm.default),
}  # fmt: skip
