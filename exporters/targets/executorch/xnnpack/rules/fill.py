"""A row or column filled with a number, as a mask: the class token's scores, so that it never merges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx

from tm_export.exporters.graph.constants import constant_of
from tm_export.exporters.graph.nodes import arguments, value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule
from tm_export.exporters.lowering.infinities import possibly_infinite

aten = torch.ops.aten


@dataclass(frozen=True)
class Fill:
    """Which position of which dimension is filled, and with what."""

    dim: int
    position: int
    number: float


class FillByMask(Rule[Fill]):
    """Replaces writing a number into one position of a dimension.

    Before::

        y = select_scatter(x, fill(select(x, dim, i), −inf), dim, i)

    After::

        y = x + mask                     mask is −inf at position i and 0 elsewhere

    A finite number is written by x · (1 − mask) + number · mask. Where x itself may be infinite, which no product turns
    into a number, it is a choice by the mask.
    """

    name: ClassVar[str] = "xnnpack::fill_by_mask"
    pattern = frozenset({aten.select_scatter.default})

    def check(self, node: fx.Node) -> Fill | No:
        """What is written must be a number, known at export."""
        _, source, dim, position = arguments(node)
        assert isinstance(source, fx.Node) and isinstance(dim, int) and isinstance(position, int)
        number = _number(source)
        if number is None:
            return No("what is written is no number known at export")
        shape = value_of(node).shape
        return Fill(dim % len(shape), position % shape[dim], number)

    def rewrite(self, node: fx.Node, match: Fill, values: Values) -> Any:
        """Add or blend with a constant mask."""
        x = values(arguments(node)[0])
        shape = [1] * x.dim()
        shape[match.dim] = x.shape[match.dim]
        at = torch.arange(x.shape[match.dim]).reshape(shape) == match.position
        if arguments(node)[0] in possibly_infinite(node.graph):
            return torch.where(at, match.number, x)
        if math.isinf(match.number):
            return x + torch.where(at, match.number, 0.0)
        return x * torch.where(at, 0.0, 1.0) + torch.where(at, match.number, 0.0)


def _number(source: fx.Node) -> float | None:
    if source.target in (aten.fill.Tensor, aten.fill.Scalar, aten.full_like.default):
        value = arguments(source)[1]
        if isinstance(value, int | float):
            return float(value)
        constant = constant_of(value) if isinstance(value, fx.Node) else None
        return None if constant is None else float(constant)
    constant = constant_of(source)
    return float(constant.flat[0]) if constant is not None and (constant == constant.flat[0]).all() else None
