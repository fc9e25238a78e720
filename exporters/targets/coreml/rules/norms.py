"""Norms of rows, of several dimensions and of groups of channels."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.written_out import WrittenOut

aten = torch.ops.aten


def _rms_norm(x: Tensor, shape: list[int], weight: Tensor | None, eps: float | None) -> Tensor:
    """x / √(mean of x² + ε): Zhang & Sennrich, arXiv 1910.07467."""
    dims = list(range(x.dim() - len(shape), x.dim()))
    least = torch.finfo(x.dtype).eps if eps is None else eps
    scaled = x * torch.rsqrt((x * x).mean(dims, keepdim=True) + least)
    return scaled if weight is None else scaled * weight


def _layer_norm(x: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float, _: bool) -> Tensor:
    """Over several dimensions at once: Core ML's gain and shift are of one."""
    dims = list(range(x.dim() - len(shape), x.dim()))
    centred = x - x.mean(dims, keepdim=True)
    made = centred * torch.rsqrt((centred * centred).mean(dims, keepdim=True) + eps)
    made = made if weight is None else made * weight
    return made if bias is None else made + bias


NORMS: Final = WrittenOut("coreml::norms", {aten.rms_norm.default: _rms_norm})
"""RMS norm, whose ε coremltools wants written."""

WIDE_NORMS: Final = WrittenOut(
    "coreml::wide_norms",
    {aten.layer_norm.default: _layer_norm},
    unless=lambda node: "" if len(bound_arguments(node)["normalized_shape"]) > 1 else "over one dimension",
)


def _group_norm(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float, _: bool) -> Tensor:
    """Each group of channels is brought to mean 0 and variance 1."""
    rows = x.reshape(x.shape[0], groups, -1)
    made = _layer_norm(rows, [rows.shape[-1]], None, None, eps, False).reshape(x.shape)
    each = [1, x.shape[1], *([1] * (x.dim() - 2))]
    made = made if weight is None else made * weight.reshape(each)
    return made if bias is None else made + bias.reshape(each)


GROUP_NORMS: Final = WrittenOut(
    "coreml::group_norms",
    {aten.group_norm.default: _group_norm},
    unless=lambda node: "" if value_of(node).dim() != 4 else "images",
)
