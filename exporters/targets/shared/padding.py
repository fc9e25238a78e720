"""Padding in the modes and along the dimensions that a target has none for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.written_out import Formula, WrittenOut

aten = torch.ops.aten


def _is_padded_by_core_ml(node: fx.Node) -> str:
    given = bound_arguments(node)
    if given.get("mode", "constant") == "constant":
        is_number = value_of(node).is_floating_point() or value_of(node).dtype == torch.bool
        return "a constant" if is_number and min(given["pad"], default=0) >= 0 else ""
    few = len(given["pad"]) <= 4 and value_of(given["self"]).is_floating_point()
    return "one or two dimensions" if given["mode"] in ("reflect", "replicate") and few else ""


def _padded_by_number(x: Tensor, pad: list[int], value: float | None) -> Tensor:
    """Cut where it is padded by less than nothing, and put between what is filled: exact for integers."""
    for i in range(len(pad) // 2):
        before, after, dim = pad[2 * i], pad[2 * i + 1], x.dim() - 1 - i
        size = x.shape[dim]
        x = x.narrow(dim, max(0, -before), size - max(0, -before) - max(0, -after))
        sides = [[*x.shape[:dim], max(0, each), *x.shape[dim + 1 :]] for each in (before, after)]
        left, right = (torch.full(side, value or 0, dtype=x.dtype) for side in sides)
        x = torch.cat([part for part in (left, x, right) if part.shape[dim]], dim)
    return x


def _padded(x: Tensor, pad: list[int], mode: str, value: float | None) -> Tensor:
    """Copies of rows by a constant index, dimension by dimension from the last."""
    if mode == "constant":
        return _padded_by_number(x, pad, value)
    for i in range(len(pad) // 2):
        before, after, dim = pad[2 * i], pad[2 * i + 1], x.dim() - 1 - i
        size = x.shape[dim]
        position = torch.arange(-before, size + after)
        if mode == "circular":
            position = position % size
        elif mode == "replicate":
            position = position.clamp(0, size - 1)
        else:
            position = (size - 1) - ((size - 1) - position.abs()).abs()
        x = x.index_select(dim, position)
    return x


def _is_padded_by_executorch(node: fx.Node) -> str:
    given = bound_arguments(node)
    if given.get("mode", "constant") == "constant":
        return "by nothing or more" if min(given["pad"], default=0) >= 0 else ""
    return "" if given["mode"] == "circular" else "not circular"


_FORMULAS: Final[Mapping[OpOverload, Formula]] = {
    aten.pad.default: _padded,
    aten.constant_pad_nd.default: _padded_by_number,
}

COREML_PADDING: Final = WrittenOut("coreml::padding", _FORMULAS, unless=_is_padded_by_core_ml)
"""Circular padding, by less than nothing, of three dimensions, or of integers."""

EXECUTORCH_PADDING: Final = WrittenOut("executorch::padding", _FORMULAS, unless=_is_padded_by_executorch)
"""Circular padding, and by less than nothing, at which the kernel fails (error 0x12)."""
