"""Look-ups and writes by index: what is read where an index is not in use is not, and nothing is written there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, fx

from tm_export.exporters.capture.capacity.places import (
    Carried,
    Places,
    broadcast,
    known,
    mask_of,
    moved,
    numbered,
    united,
    varying,
)
from tm_export.exporters.capture.capacity.step import Handler, Made, Step, each_of
from tm_export.exporters.graph.nodes import value_of

aten = torch.ops.aten


def _indices(step: Step) -> dict[int, fx.Node]:
    """The index tensors, by the dimension that they index."""
    given = step.given
    if "indices" in given:
        found = given["indices"] if isinstance(given["indices"], Sequence) else [given["indices"]]
        return {d: index for d, index in enumerate(found) if index is not None}
    return {step.dim(given["self"]): given["index"]}


def _looked_up(step: Step) -> Made:
    """Rows of places: of an index's, and of the data's along what is not indexed."""
    given = step.given
    data = given["weight"] if "weight" in given else given["self"]
    indices = _indices(step)
    shape = tuple(value_of(data).shape)
    kept = step.places_but_along(data, frozenset(indices))
    with known():
        zeros = {node: torch.zeros(tuple(value_of(node).shape), dtype=torch.int64) for node in indices.values()}
        first = {**zeros, data: torch.zeros(shape, dtype=torch.int64)}
        made = [Places(each.used_S, step.call_known({**first, data: each.place})) for each in kept]
        for dim, node in indices.items():
            for each in step.places(node):
                wide = [int(each.place.max()) + 2 if d == dim else n for d, n in enumerate(shape)]
                table = numbered(wide, dim)
                place = step.call_known({**first, data: table, node: each.place + 1}) - 1
                made.append(Places(each.used_S, place))
        return Made(united(made))


def _written(step: Step) -> Made:
    """What is not in use is written to a place behind the last, which is cut off again."""
    given = step.given
    base, indices = given["self"], _indices(step)
    rows = given.get("values", given.get("src", given.get("source")))
    shape = torch.broadcast_shapes(*(tuple(value_of(index).shape) for index in indices.values()))  # type: ignore[no-untyped-call]
    with known():
        writing = [each for index in indices.values() for each in broadcast(step.places(index), shape)]
        carried = united([*writing, *_places_by_index(step, base, rows, indices, shape)])
    mask = mask_of(carried)
    if mask is None:
        return Made(step.places(base))
    dim, index = next(iter(indices.items()))
    into = step.values(base)
    size = into.shape[dim]
    wide = torch.cat([into, into.narrow(dim, 0, 1)], dim)
    at = step.values(index)
    away = torch.where(mask, torch.where(at < 0, at + size, at), torch.full((), size, dtype=at.dtype))
    if "indices" in given:
        others = [away if i == dim else step.values(each) for i, each in enumerate(given["indices"])]
        result = step.call(self=wide, indices=others)
    else:
        result = step.call(self=wide, index=away.expand(at.shape) if away.shape != at.shape else away)
    return Made(step.places(base), result.narrow(dim, 0, size))


def _places_by_index(
    step: Step, base: fx.Node, rows: object, indices: Mapping[int, fx.Node], shape: Sequence[int]
) -> Carried:
    """The places of the rows that are written, as those of the indices that they are written to."""
    if not step.places(rows):
        return ()
    first = min(indices) if max(indices) - min(indices) == len(indices) - 1 else 0
    whole = tuple(value_of(base).shape)
    own = range(first, first + len(shape))
    if step.node.target in _BY_ELEMENT:
        wide, own = tuple(shape), range(len(shape))
    else:
        rest = [size for d, size in enumerate(whole) if d not in indices]
        wide = (*rest[:first], *shape, *rest[first:])
    found = broadcast(step.places(rows), wide)
    if any(not varying(each.place) <= set(own) for each in found):
        step.refuse("the rows that it writes are not tokens")
    others = [d for d in range(len(wide)) if d not in own]

    def by_index(place: Tensor) -> Tensor:
        for d in reversed(others):
            place = place.select(d, 0)
        return place

    return moved(found, by_index)


def _filled_in(step: Step) -> Made:
    """The first elements of the source go where the mask is true: those in use have to be the first."""
    given = step.given
    source = given["source"]
    for each in step.places(source):
        with known():
            (dim, *others) = sorted(varying(each.place))
        if others or any(size > 1 for size in value_of(source).shape[:dim]):
            step.refuse("what it fills in is not the rows of a selection, in their order")
    if step.places(given["mask"]):
        step.refuse("its mask is over tokens of a selection")
    return Made(step.places(given["self"]))


_BY_ELEMENT: Final = (
    aten.scatter.src, aten.scatter_add.default, aten.scatter_reduce.two,
)  # fmt: skip
"""Operators that write an element of the same shape for each index."""


INDEXING: Final[Mapping[Any, Handler]] = {
    **each_of(
        _looked_up,
        aten.index.Tensor, aten.index_select.default, aten.gather.default, aten.embedding.default,
    ),
    **each_of(
        _written,
        aten.index_put.default, aten.scatter.src, aten.scatter.value, aten.scatter_add.default,
        aten.scatter_reduce.two, aten.index_add.default, aten.index_copy.default,
    ),
    aten.masked_scatter.default: _filled_in,
}  # fmt: skip
