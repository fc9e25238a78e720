"""Sums, means and norms along one dimension as products with a constant, or by adding: the delegate has no others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from tm_export.exporters.graph.nodes import arguments, is_float, keywords, value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule
from tm_export.exporters.targets.executorch.xnnpack.rules.products import batched

aten = torch.ops.aten

MOST_SLICES: Final = 64
"""Heads are few; a sum over more of something is left to the portable kernel."""


@dataclass(frozen=True)
class Reduction:
    """The dimension that is reduced, and whether it stays with size 1."""

    dim: int
    keepdim: bool


class ReductionByProduct(Rule[Reduction]):
    """Replaces mean, sum and the Euclidean norm along one dimension.

    Before::

        y = mean(x [..., C], -1, keepdim=True)             y = mean(k [B, H, N, D], 1)

    After::

        y = linear(x, 1/C [1, C])                          y = (k[:, 0] + k[:, 1] + …) · 1/H
    """

    name: ClassVar[str] = "xnnpack::reduction_by_product"
    pattern = frozenset({aten.mean.dim, aten.sum.dim_IntList, aten.linalg_vector_norm.default})

    def check(self, node: fx.Node) -> Reduction | No:
        """One dimension of a float tensor; of norms, the Euclidean one."""
        x = arguments(node)[0]
        assert isinstance(x, fx.Node)
        given = list(arguments(node)[1:])
        if node.target is aten.linalg_vector_norm.default:
            order = given.pop(0) if given else keywords(node).get("ord", 2)
            if order != 2:
                return No("not the Euclidean norm")
        dims = given[0] if given else keywords(node).get("dim")
        if not is_float(x) or not isinstance(dims, list | tuple) or len(dims) != 1:
            return No("not along one dimension")
        rank = value_of(x).dim()
        dim = int(dims[0]) % rank
        if dim < rank - 3:
            return No("a dimension far in front")
        if dim == rank - 3 and value_of(x).shape[dim] > MOST_SLICES:
            return No("too many to add one by one")
        keepdim = given[1] if len(given) > 1 else keywords(node).get("keepdim", False)
        return Reduction(dim, bool(keepdim))

    def rewrite(self, node: fx.Node, match: Reduction, values: Values) -> Any:
        """A product with equal weights, or sums of slices."""
        x = values(arguments(node)[0])
        if node.target is aten.linalg_vector_norm.default:
            return torch.sqrt(_weighted(x * x, match, 1.0))
        factor = 1.0 if node.target is aten.sum.dim_IntList else 1 / x.shape[match.dim]
        return _weighted(x, match, factor)


def _weighted(x: Tensor, match: Reduction, factor: float) -> Tensor:
    size, from_end = x.shape[match.dim], x.dim() - match.dim
    if from_end == 1:
        y = F.linear(x, torch.full((1, size), factor))
    elif from_end == 2:
        y = batched(torch.full((*x.shape[:-2], 1, size), factor), x)
    else:
        y = _sum_of_slices(x, match.dim) * factor
    return y if match.keepdim else y.squeeze(match.dim)


def _sum_of_slices(x: Tensor, dim: int) -> Tensor:
    """The sum over a dimension, kept; half of it is added to the other half as long as there are two."""
    while x.shape[dim] % 2 == 0:
        half = x.shape[dim] // 2
        x = x.narrow(dim, 0, half) + x.narrow(dim, half, half)
    total = x.narrow(dim, 0, 1)
    for place in range(1, x.shape[dim]):
        total = total + x.narrow(dim, place, 1)
    return total
