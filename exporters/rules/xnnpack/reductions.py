"""Sums, means and norms along one dimension as products with a constant: the delegate reduces nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from tm_export.exporters.retrace import Values, arguments, is_float, keywords, value_of
from tm_export.exporters.rules.base import No, Rule

aten = torch.ops.aten


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

        y = linear(x, 1/C [1, C])                          y = linear(rows of all heads [B, N, H·D], 1/H [D, H·D])
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
        keepdim = given[1] if len(given) > 1 else keywords(node).get("keepdim", False)
        return Reduction(dim, bool(keepdim))

    def rewrite(self, node: fx.Node, match: Reduction, values: Values) -> Any:
        """A linear layer with equal weights."""
        x = values(arguments(node)[0])
        if node.target is aten.linalg_vector_norm.default:
            return torch.sqrt(_weighted(x * x, match, 1.0))
        factor = 1.0 if node.target is aten.sum.dim_IntList else 1 / x.shape[match.dim]
        return _weighted(x, match, factor)


def _weighted(x: Tensor, match: Reduction, factor: float) -> Tensor:
    size, channels = x.shape[match.dim], x.shape[-1]
    if match.dim == x.dim() - 1:
        y = F.linear(x, torch.full((1, size), factor))
        return y if match.keepdim else y.squeeze(-1)
    # [..., H, N, D] → [..., N, H·D]: the reduced dimension goes beside the channels, and is summed with them.
    order = [d for d in range(x.dim()) if d != match.dim]
    moved = x.permute(*order[:-1], match.dim, order[-1])
    flat = moved.reshape(*moved.shape[:-2], size * channels)
    y = F.linear(flat, torch.eye(channels).repeat(1, size) * factor)
    return y.unsqueeze(match.dim) if match.keepdim else y
