"""Functions that no target has as an operator, or not all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.written_out import Formula, WrittenOut

aten = torch.ops.aten


def _nan_to_num(x: Tensor, nan: float | None, posinf: float | None, neginf: float | None) -> Tensor:
    if not x.is_floating_point():
        return x
    largest = torch.finfo(x.dtype).max
    numbers = torch.where(x != x, torch.full((), nan or 0.0, dtype=x.dtype), x)
    for infinity, given, otherwise in ((math.inf, posinf, largest), (-math.inf, neginf, -largest)):
        put = torch.full((), otherwise if given is None else given, dtype=x.dtype)
        numbers = torch.where(x == infinity, put, numbers)
    return numbers


def _cdist(x_BPC: Tensor, y_BRC: Tensor, p: float, _: int | None) -> Tensor:
    """Distances [B, P, R] between two sets of points, of the differences themselves: exact where points are near."""
    difference = (x_BPC.unsqueeze(-2) - y_BRC.unsqueeze(-3)).abs()
    if p == 0:
        return (difference != 0).to(x_BPC.dtype).sum(-1)
    if p == 1:
        return difference.sum(-1)
    if p == 2:
        return (difference * difference).sum(-1).sqrt()
    if p == math.inf:
        return difference.amax(-1)
    return difference.pow(p).sum(-1).pow(1 / p)


def _extremes(x: Tensor, dim: int | None, keepdim: bool) -> tuple[Tensor, Tensor]:
    dims = list(range(x.dim())) if dim is None else [dim]
    least, most = (of(x, dims, keepdim=keepdim) if x.dim() else x for of in (torch.amin, torch.amax))
    return least, most


def _with_mean(spread: Callable[..., Tensor]) -> Formula:
    def formula(x: Tensor, dim: list[int] | None, correction: float | None, keepdim: bool) -> tuple[Tensor, Tensor]:
        explicit = 1 if correction is None else correction
        return spread(x, dim, correction=explicit, keepdim=keepdim), torch.mean(x, dim or None, keepdim)

    return formula


def _by_unbiased(formula: Formula) -> Formula:
    return lambda x, dim, unbiased, keepdim: formula(x, dim, int(unbiased), keepdim)


def _of_all(formula: Formula) -> Formula:
    return lambda x, unbiased: formula(x, None, int(unbiased), False)


_VARIANCE, _DEVIATION = _with_mean(torch.var), _with_mean(torch.std)

FORMULAS: Final = WrittenOut(
    "normalise::formulas",
    {
        aten.nan_to_num.default: _nan_to_num,
        aten.cdist.default: _cdist,
        aten.aminmax.default: _extremes,
        aten.var_mean.correction: _VARIANCE,
        aten.var_mean.dim: _by_unbiased(_VARIANCE),
        aten.var_mean.default: _of_all(_VARIANCE),
        aten.std_mean.correction: _DEVIATION,
        aten.std_mean.dim: _by_unbiased(_DEVIATION),
        aten.std_mean.default: _of_all(_DEVIATION),
        aten._cdist_forward.default: _cdist,
    },
)


def _extreme(of: Callable[..., Tensor]) -> Formula:
    def extreme(x: Tensor, dim: list[int], keepdim: bool) -> Tensor:
        return of(x, list(range(x.dim())), keepdim=keepdim) if x.dim() else x

    return extreme


def _is_along_dimensions(node: fx.Node) -> str:
    given = bound_arguments(node)
    return "along dimensions" if given["dim"] and value_of(given["self"]).dim() else ""


EXTREMES: Final = WrittenOut(
    "normalise::extremes",
    {aten.amax.default: _extreme(torch.amax), aten.amin.default: _extreme(torch.amin)},
    unless=_is_along_dimensions,
)
"""Of everything: the dimensions are named."""
