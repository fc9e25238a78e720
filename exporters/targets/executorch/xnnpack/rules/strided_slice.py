"""Every other row, without a stride: the delegate takes only slices of step 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.nodes import arguments, slice_of, value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule

aten = torch.ops.aten

_INTO_PRODUCTS = (aten.matmul.default, aten.bmm.default, aten.transpose.int, aten.permute.default)


@dataclass(frozen=True)
class Stride:
    """Start and step along the rows of [B, N, C], and whether the rows go into a matrix product."""

    start: int
    step: int
    into_product: bool


class StridedSlice(Rule[Stride]):
    """Replaces a slice with a step along the second last dimension.

    Before::

        a = slice(x [B, N, C], 1, start, N, 2)

    After, where a matrix product reads it (the delegate goes on)::

        a = slice(reshape(x, [B, N/2, 2C]), 2, start·C, (start + 1)·C)

    After, where it meets gathered rows (the delegate ends there anyway, and copying whole rows is cheapest)::

        a = index_select(x, 1, [start, start + 2, …])
    """

    name: ClassVar[str] = "xnnpack::strided_slice"
    pattern = frozenset({aten.slice.Tensor})

    def check(self, node: fx.Node) -> Stride | No:
        """A step over rows, to the end."""
        cut = slice_of(node)
        shape = value_of(cut.source).shape
        if cut.step == 1:
            return No("no step")
        if cut.dim != len(shape) - 2 or cut.end < shape[cut.dim]:
            return No("not along the rows to their end")
        products = cut.start < cut.step and all(user.target in _INTO_PRODUCTS for user in node.users)
        return Stride(cut.start, cut.step, products)

    def rewrite(self, node: fx.Node, match: Stride, values: Values) -> Any:
        """A view and a plain slice, or whole rows by a constant index."""
        x = values(arguments(node)[0])
        N = x.shape[-2]
        if not match.into_product:
            return x.index_select(x.dim() - 2, torch.arange(match.start, N, match.step))
        return _by_view(x, match.start, match.step)


def _by_view(x: Tensor, start: int, step: int) -> Tensor:
    *batch, N, C = x.shape
    whole = N // step * step
    rows = x[..., :whole, :].reshape(*batch, N // step, step * C)[..., start * C : (start + 1) * C]
    if whole + start >= N:
        return rows
    return torch.cat([rows, x[..., whole + start : whole + start + 1, :]], -2)
