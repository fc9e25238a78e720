"""What computes element by element, and what moves elements: places go the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from tm_export.exporters.capture.capacity.places import (
    ALWAYS,
    Places,
    along,
    broadcast,
    in_front,
    known,
    mask_of,
    stretched,
    united,
)
from tm_export.exporters.capture.capacity.step import Handler, Made, Step, each_of
from tm_export.exporters.graph.arguments import from_front
from tm_export.exporters.graph.nodes import value_of

aten = torch.ops.aten

_LEFT_OPEN: Final = "it counts from where the tokens in use begin or end, which follows from data"


def elementwise(step: Step) -> Made:
    """Each element of the result is of the places of those that it is computed from."""
    shape = tuple(value_of(step.node).shape)
    inputs = step.node.all_input_nodes
    return Made(united([each for node in inputs for each in broadcast(step.places(node), shape)]))


def same(step: Step) -> Made:
    """The result's elements are the first argument's."""
    return Made(step.places(step.node.all_input_nodes[0]))


def none(step: Step) -> Made:
    """The result is made of shapes and dtypes alone."""
    return Made(())


def moved(step: Step) -> Made:
    """The same move of the places."""
    made = step.node.meta["val"]
    several = isinstance(made, tuple | list)
    results: list[list[Places]] = [[] for _ in (made if several else [made])]
    inputs = step.node.all_input_nodes
    with known():
        nowhere = {node: torch.full(tuple(value_of(node).shape), ALWAYS) for node in inputs}
    for node in inputs:
        for each in step.places(node):
            out = step.call_known({**nowhere, node: each.place})
            for found, place in zip(results, out if several else [out], strict=True):
                found.append(Places(each.used_S, place))
    carried = tuple(united(found) for found in results)
    return Made(carried if several else carried[0])


def padded(step: Step) -> Made:
    """What is put around is in use."""
    given = step.given
    rank = value_of(given["self"]).dim()
    taken = {rank - 1 - i // 2 for i, count in enumerate(given["pad"]) if count < 0}
    step.places_free_of(given["self"], frozenset(taken), _LEFT_OPEN)

    def pad(place: Tensor) -> Tensor:
        return F.pad(place, given["pad"], value=ALWAYS)

    with known():
        return Made(united([Places(each.used_S, pad(each.place)) for each in step.places(given["self"])]))


def taken_apart(step: Step) -> Made:
    """Moves that count the elements along a dimension, which nobody can of tokens."""
    source = step.node.all_input_nodes[0]
    given = step.given
    dims, rank = given["dims"] if "dims" in given else [given["dim"]], value_of(source).dim()
    step.places_free_of(source, frozenset(from_front(d, rank) for d in dims), _LEFT_OPEN)
    return moved(step)


def row(step: Step) -> Made:
    """One row. One that is not there is an error in PyTorch, so that which is taken is in use."""
    given = step.given
    source, dim, index = given["self"], step.dim(given["self"]), given["index"]
    mask = mask_of(along(step.places(source), frozenset({dim})))
    made = moved(replace(step, carried={source: step.places_but_along(source, frozenset({dim}))}))
    if mask is None or index >= 0:
        return made
    at = (mask.sum() + index).clamp(min=0).reshape(1)
    return Made(made.carried, step.values(source).index_select(dim, at).squeeze(dim))


def cut(step: Step) -> Made:
    """A slice, whose bounds may count from the end of what is in use."""
    given = step.given
    source, dim = given["self"], step.dim(given["self"])
    size, shape = value_of(source).shape[dim], tuple(value_of(step.node).shape)
    start, end = given["start"] or 0, size if given["end"] is None else given["end"]
    mask = mask_of(along(step.places(source), frozenset({dim})))
    if mask is None or (start >= 0 and end >= 0):
        return moved(step)
    if given["step"] != 1 or (start < 0 and end < size):
        step.refuse(_LEFT_OPEN)
    others, steps = step.places_but_along(source, frozenset({dim})), torch.arange(shape[dim])
    with known():
        carried = [Places(each.used_S, stretched(each.place, dim, shape[dim])) for each in others]
    if start >= 0:
        used = steps < mask.sum() + (end - start)
        return Made(united([*carried, in_front(used, shape, dim)]))
    first = (mask.sum() - shape[dim]).clamp(min=0)
    used = steps < mask.sum()
    rows = step.values(source).index_select(dim, (steps + first).clamp(max=size - 1))
    return Made(united([*carried, in_front(used, shape, dim)]), rows)


MOVING: Final[Mapping[Any, Handler]] = {
    **each_of(
        moved,
        aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.flatten.using_ints,
        aten.unflatten.int, aten.unsqueeze.default, aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims,
        aten.permute.default, aten.transpose.int, aten.t.default, aten.mT.default, aten.movedim.int,
        aten.movedim.intlist, aten.swapaxes.default, aten.swapdims.default, aten.expand.default, aten.repeat.default,
        aten.tile.default, aten.flip.default, aten.repeat_interleave.self_int, aten.cat.default, aten.stack.default,
        aten.narrow.default,
        aten.split_with_sizes.default, aten.expand_as.default, aten.view_as.default,
        aten.ravel.default, aten.diagonal.default,
    ),
    **each_of(
        same,
        aten.clone.default, aten.contiguous.default, aten.alias.default, aten.detach.default, aten.to.dtype,
        aten.to.dtype_layout, aten.to.device, aten.to.other, aten._to_copy.default, aten.type_as.default,
        aten.dropout.default, aten.tril.default, aten.triu.default, aten.lift_fresh_copy.default,
        aten.copy.default, aten.slice_scatter.default, aten.select_scatter.default,
        aten.zeros_like.default, aten.ones_like.default, aten.full_like.default, aten.empty_like.default,
    ),
    **each_of(
        none,
        aten.new_zeros.default, aten.new_ones.default, aten.new_full.default, aten.new_empty.default,
    ),
    **each_of(
        taken_apart,
        aten.split.Tensor, aten.chunk.default, aten.unbind.int, aten.roll.default,
    ),
    aten.slice.Tensor: cut,
    aten.select.int: row,
    aten.constant_pad_nd.default: padded,
}  # fmt: skip
