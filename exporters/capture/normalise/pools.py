"""Pools whose stride is left to be the size of the window: it is said, since converters misread its absence."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.written_out import Formula, WrittenOut

aten = torch.ops.aten


def _with_stride(op: OpOverload) -> Formula:
    def pooled(x: Tensor, size: list[int], _stride: list[int], *rest: Any) -> Any:
        return op(x, size, size, *rest)

    return pooled


_POOLS: Final = (
    aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default,
    aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default,
    aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default,
)  # fmt: skip


def _has_stride(node: fx.Node) -> str:
    return "a stride is given" if bound_arguments(node)["stride"] else ""


STRIDES: Final = WrittenOut("normalise::strides", {op: _with_stride(op) for op in _POOLS}, unless=_has_stride)
"""Of windows that do not overlap."""
