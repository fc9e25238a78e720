"""What computes over a dimension: elements that are not in use are what changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, fx

from tm_export.exporters.capture.capacity.places import (
    Carried,
    Places,
    along,
    filled,
    in_front,
    known,
    mask_of,
    stretched,
    united,
)
from tm_export.exporters.capture.capacity.step import Handler, Made, Step, each_of, highest, lowest
from tm_export.exporters.graph.arguments import from_front
from tm_export.exporters.graph.nodes import value_of

aten = torch.ops.aten

Neutral = Callable[[torch.dtype], float | int | bool]


def _zero(_dtype: torch.dtype) -> int:
    return 0


def _one(_dtype: torch.dtype) -> int:
    return 1


def _subject(step: Step) -> tuple[fx.Node, frozenset[int]]:
    """What is reduced, and along which dimensions."""
    given = step.given
    source = given["self"]
    rank = value_of(source).dim()
    dims = given.get("dim")
    dims = list(range(rank)) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    return source, frozenset(from_front(d, rank) for d in dims)


def _reduced(step: Step, source: fx.Node, dims: frozenset[int]) -> Carried:
    """The places of what comes out: of those that vary along other dimensions."""
    keeps = bool(step.given.get("keepdim"))

    def first(place: Tensor) -> Tensor:
        for d in sorted(dims, reverse=True):
            place = place.narrow(d, 0, 1) if keeps else place.select(d, 0)
        return place

    kept = step.places_but_along(source, dims)
    with known():
        return united([Places(each.used_S, first(each.place)) for each in kept])


def _with(neutral: Neutral) -> Handler:
    def reduce(step: Step) -> Made:
        source, dims = _subject(step)
        carried = _reduced(step, source, dims)
        given = step.values(source)
        value = step.call(self=filled(given, along(step.places(source), dims), neutral(given.dtype)))
        several = isinstance(step.node.meta["val"], tuple | list)
        return Made((carried, carried) if several else carried, value)

    return reduce


def _mean(step: Step) -> Made:
    source, dims = _subject(step)
    carried = _reduced(step, source, dims)
    given = step.values(source)
    over = along(step.places(source), dims)
    mask = mask_of(over)
    if mask is None:
        return Made(carried)
    keeps, order = bool(step.given.get("keepdim")), sorted(dims)
    count = mask.expand(given.shape).to(given.dtype).sum(order, keepdim=keeps)
    return Made(carried, filled(given, over, 0).sum(order, keepdim=keeps) / count)


def _row_by_row(neutral: Neutral) -> Handler:
    """Of what gives as many as it is given, each of the same place: softmax, running sums."""

    def compute(step: Step) -> Made:
        source, dims = _subject(step)
        given = step.values(source)
        value = step.call(self=filled(given, along(step.places(source), dims), neutral(given.dtype)))
        return Made(step.places(source), value)

    return compute


def _first_of_order(step: Step) -> Made:
    """The first of a stable order: among equal scores, such as infinite ones, what is in use comes before the rest."""
    source, dim = step.given["self"], step.dim(step.given["self"])
    given, k, over = step.values(source), step.given["k"], along(step.places(source), frozenset({dim}))
    kept = step.places_but_along(source, frozenset({dim}))
    with known():
        carried = united([Places(each.used_S, stretched(each.place, dim, k)) for each in kept])
    if not over:
        return Made((carried, carried))
    order = _order(given, over, dim, descending=step.given["largest"]).narrow(dim, 0, k)
    return Made((carried, carried), (given.gather(dim, order), order))


def _order(x: Tensor, over: Carried, dim: int, *, descending: bool) -> Tensor:
    """The order of what is in use, and the rest behind it."""
    behind = (lowest if descending else highest)(x.dtype)
    return filled(x, over, behind).sort(stable=True, dim=dim, descending=descending).indices


def _ordered(step: Step) -> Made:
    """What is in use comes first, whatever the order; values behind it are those of tokens, as all are."""
    source, dim = step.given["self"], step.dim(step.given["self"])
    given, over = step.values(source), along(step.places(source), frozenset({dim}))
    several = isinstance(step.node.meta["val"], tuple | list)
    carried = list(step.places_but_along(source, frozenset({dim})))
    mask = mask_of(over)
    if mask is None:
        return Made((united(carried),) * 2 if several else united(carried))
    found = united([*carried, in_front(mask.reshape(-1), tuple(given.shape), dim)])
    order = _order(given, over, dim, descending=step.given["descending"])
    return Made((found, found), (given.gather(dim, order), order)) if several else Made(found, order)


def _normalised(step: Step) -> Made:
    """Layer norm and its kin, over channels."""
    source = step.node.all_input_nodes[0]
    rank = value_of(source).dim()
    dims = frozenset(range(rank - len(step.given["normalized_shape"]), rank))
    return Made(step.places_free_of(source, dims, "it normalises over tokens"))


REDUCING: Final[Mapping[Any, Handler]] = {
    **each_of(
        _with(_zero),
        aten.sum.default, aten.sum.dim_IntList, aten.any.default, aten.any.dim, aten.any.dims,
        aten.count_nonzero.default, aten.count_nonzero.dim_IntList, aten.linalg_vector_norm.default,
        aten.norm.ScalarOpt_dim, aten.nansum.default,
    ),
    **each_of(_with(_one), aten.prod.default, aten.prod.dim_int, aten.all.default, aten.all.dim, aten.all.dims),
    **each_of(
        _with(lowest),
        aten.amax.default, aten.max.default, aten.max.dim, aten.argmax.default, aten.logsumexp.default,
    ),
    **each_of(_with(highest), aten.amin.default, aten.min.default, aten.min.dim, aten.argmin.default),
    **each_of(_mean, aten.mean.default, aten.mean.dim),
    **each_of(
        _row_by_row(lowest),
        aten.softmax.int, aten._softmax.default, aten.log_softmax.int, aten._log_softmax.default,
        aten._safe_softmax.default,
    ),
    **each_of(_row_by_row(_zero), aten.cumsum.default),
    **each_of(_row_by_row(_one), aten.cumprod.default),
    aten.topk.default: _first_of_order,
    **each_of(_ordered, aten.sort.default, aten.sort.stable, aten.argsort.default, aten.argsort.stable),
    **each_of(_normalised, aten.layer_norm.default, aten.rms_norm.default),
}  # fmt: skip
