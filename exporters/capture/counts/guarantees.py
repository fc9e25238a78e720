"""What operators guarantee of what they make of unknown numbers: an order is a permutation, a choice a candidate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.nodes import value_of

_aten: Final = torch.ops.aten


class Unknown:
    """What may be anything."""


UNKNOWN: Final = Unknown()


class Permutations:
    """Some permutation for each choice of a graph: `of(which, size)`, asked for in the graph's order."""

    def __init__(self, of: Callable[[int, int], Tensor]) -> None:
        self._of, self._asked = of, 0

    def rows(self, shape: tuple[int, ...], dim: int) -> Tensor:
        """Permutations along `dim` of a tensor of `shape`, one for each row of it."""
        if not shape:
            return torch.zeros((), dtype=torch.int64)
        dim %= len(shape)
        size = shape[dim]
        others = [*shape[:dim], *shape[dim + 1 :]]
        self._asked += 1
        rows = [self._of(self._asked, size) for _ in range(torch.Size(others).numel())]
        return (
            (torch.stack(rows) if rows else torch.zeros(0, dtype=torch.int64)).reshape(*others, size).movedim(-1, dim)
        )


Guarantee = Callable[[fx.Node, Permutations], Any]


def _order(node: fx.Node, permutations: Permutations) -> Tensor:
    given = bound_arguments(node)
    return permutations.rows(tuple(value_of(given["self"]).shape), given["dim"])


def _first_of_order(node: fx.Node, permutations: Permutations) -> tuple[Any, Tensor]:
    given = bound_arguments(node)
    return UNKNOWN, _order(node, permutations).narrow(given["dim"], 0, given["k"])


def _sorted(node: fx.Node, permutations: Permutations) -> tuple[Any, Tensor]:
    return UNKNOWN, _order(node, permutations)


def _candidate(node: fx.Node, permutations: Permutations) -> Tensor:
    given = bound_arguments(node)
    shape, dim = tuple(value_of(given["self"]).shape), given.get("dim")
    if dim is None:
        return permutations.rows((torch.Size(shape).numel(),), 0)[0].reshape(value_of(node).shape)
    first = permutations.rows(shape, dim).narrow(dim, 0, 1)
    return first if given.get("keepdim") else first.squeeze(dim)


def _best(node: fx.Node, permutations: Permutations) -> tuple[Any, Tensor]:
    return UNKNOWN, _candidate(node, permutations)


GUARANTEES: Final[dict[Any, Guarantee]] = {
    _aten.topk.default: _first_of_order,
    _aten.sort.default: _sorted,
    _aten.sort.stable: _sorted,
    _aten.argsort.default: _order,
    _aten.argsort.stable: _order,
    _aten.argmax.default: _candidate,
    _aten.argmin.default: _candidate,
    _aten.max.dim: _best,
    _aten.min.dim: _best,
}

SHAPE_ONLY: Final = {
    _aten.zeros_like.default, _aten.ones_like.default, _aten.full_like.default, _aten.new_zeros.default,
    _aten.new_ones.default, _aten.new_full.default,
}  # fmt: skip
"""Operators that read of their input its shape and dtype alone."""
