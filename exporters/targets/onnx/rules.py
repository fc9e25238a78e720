"""Operators that ONNX's exporter lacks, has for some dtypes alone, or computes otherwise."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.written_out import WrittenOut
from tm_export.exporters.targets.coreml.rules.linear import contracted
from tm_export.exporters.targets.coreml.rules.pooling import AVERAGES
from tm_export.exporters.targets.shared.functions import FORMULAS
from tm_export.exporters.targets.shared.integers import SHIFTS

aten = torch.ops.aten

_LACKING: Final = (aten.hypot.default, aten.copysign.Tensor, aten.atan2.default)

FUNCTIONS: Final = WrittenOut("onnx::functions", {op: FORMULAS[op] for op in _LACKING})
"""Functions of each number; the exporter's atan2 gives minus pi for what stands straight to the left."""


def _chosen(condition: Tensor, x: Any, y: Any) -> Tensor:
    return torch.logical_or(condition & x, ~condition & y)


def _filled(x: Tensor, mask: Tensor, value: Any) -> Tensor:
    return _chosen(mask, torch.full((), bool(value)) if not isinstance(value, Tensor) else value, x)


CHOICES: Final = WrittenOut(
    "onnx::choices",
    {aten.where.self: _chosen, aten.masked_fill.Scalar: _filled, aten.masked_fill.Tensor: _filled},
    unless=lambda node: "" if value_of(node).dtype == torch.bool else "numbers",
)
"""Between truth values, for which the runtime has no `Where`."""

SPREADING_CONTRACTIONS: Final = WrittenOut(
    "onnx::spreading_contractions",
    {aten.einsum.default: contracted},
    unless=lambda node: "" if "..." in bound_arguments(node)["equation"] else "names all dimensions",
)
"""Einstein sums that broadcast: as PyTorch takes them apart."""


def _product_of_row(x: Tensor, dim: int, keepdim: bool, dtype: torch.dtype | None) -> Tensor:
    return torch.prod(x, dim, keepdim=True, dtype=dtype).reshape(())


def _logsumexp_of_row(x: Tensor, dim: list[int], keepdim: bool) -> Tensor:
    return torch.logsumexp(x, dim, keepdim=True).reshape(())


ROWS: Final = WrittenOut(
    "onnx::rows",
    {aten.prod.dim_int: _product_of_row, aten.logsumexp.default: _logsumexp_of_row},
    unless=lambda node: "" if value_of(node).dim() == 0 else "its result has dimensions",
)
"""Reductions of a row to a number: the exporter loses the dimension before it has reduced it."""

ONNX_RULES: Final = (FUNCTIONS, SHIFTS, CHOICES, AVERAGES, SPREADING_CONTRACTIONS, ROWS)
