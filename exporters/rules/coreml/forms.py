"""Operators that coremltools knows, in forms that it reads rightly."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, fx

from tm_export.exporters.arguments import bound_arguments, from_front
from tm_export.exporters.retrace import value_of
from tm_export.exporters.rules.written_out import WrittenOut, as_tensor

aten = torch.ops.aten


def _rms_norm(x: Tensor, shape: list[int], weight: Tensor | None, eps: float | None) -> Tensor:
    """x / √(mean of x² + ε): Zhang & Sennrich, arXiv 1910.07467."""
    dims = list(range(x.dim() - len(shape), x.dim()))
    least = torch.finfo(x.dtype).eps if eps is None else eps
    scaled = x * torch.rsqrt((x * x).mean(dims, keepdim=True) + least)
    return scaled if weight is None else scaled * weight


def _layer_norm(
    x: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float, _: bool
) -> Tensor:
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


def _group_norm(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float, _: bool
) -> Tensor:
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


def _grouped_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    is_causal: bool,
    scale: float | None,
    _: bool,
) -> Tensor:
    """Attention whose keys and values are shared by groups of heads: each is repeated for its group."""
    times = query.shape[-3] // key.shape[-3]
    key, value = (each.repeat_interleave(times, -3) for each in (key, value))
    return aten.scaled_dot_product_attention.default(query, key, value, mask, dropout, is_causal, scale=scale)


GROUPED_ATTENTION: Final = WrittenOut(
    "coreml::grouped_attention",
    {aten.scaled_dot_product_attention.default: _grouped_attention},
    unless=lambda node: "" if bound_arguments(node)["enable_gqa"] else "a key for each head",
)


def _windows(x: Tensor, dim: int, size: int, step: int) -> Tensor:
    """Sliding windows: rows by a constant index."""
    dim = from_front(dim, x.dim())
    count = (x.shape[dim] - size) // step + 1
    position = torch.arange(count)[:, None] * step + torch.arange(size)
    rows = x.index_select(dim, position.reshape(-1))
    return rows.unflatten(dim, (count, size)).movedim(dim + 1, -1)


WINDOWS: Final = WrittenOut("coreml::windows", {aten.unfold.default: _windows})
"""`x.unfold(dim, size, step)`."""


def _where_of_numbers(condition: Tensor, x: Any, y: Any) -> Tensor:
    dtype = torch.result_type(x, y)
    x, y = (as_tensor(each, dtype).unsqueeze(0) for each in (x, y))
    return aten.where.self(condition.unsqueeze(0), x, y).squeeze(0)


SINGLE_CHOICES: Final = WrittenOut(
    "coreml::single_choices",
    {aten.where.self: _where_of_numbers, aten.where.ScalarOther: _where_of_numbers, aten.where.ScalarSelf: _where_of_numbers, aten.where.Scalar: _where_of_numbers},
    unless=lambda node: "more than one number" if value_of(node).dim() else "",
)
"""`where` of single numbers: coremltools broadcasts to a shape without entries, which it cannot write."""


def _filled(shape: list[int], value: float, like: fx.Node | Tensor, dtype: torch.dtype | None) -> Tensor:
    assert isinstance(like, Tensor)
    return torch.full(shape, value, dtype=dtype or like.dtype)


def _new_zeros(x: Tensor, size: list[int], dtype: torch.dtype | None, *_: Any) -> Tensor:
    return _filled(size, 0, x, dtype)


def _new_ones(x: Tensor, size: list[int], dtype: torch.dtype | None, *_: Any) -> Tensor:
    return _filled(size, 1, x, dtype)


def _new_full(x: Tensor, size: list[int], value: float, dtype: torch.dtype | None, *_: Any) -> Tensor:
    return _filled(size, value, x, dtype)


NEW_TENSORS: Final = WrittenOut(
    "coreml::new_tensors",
    {
        aten.new_zeros.default: _new_zeros,
        aten.new_empty.default: _new_zeros,
        aten.new_ones.default: _new_ones,
        aten.new_full.default: _new_full,
    },
)
"""Tensors that are made of nothing but a shape read no input: they are folded."""


def _contracted(equation: str, operands: list[Tensor], _: Any) -> Tensor:
    made: Tensor = aten.einsum.default.decompose(equation, operands)
    return made


CONTRACTIONS: Final = WrittenOut("coreml::contractions", {aten.einsum.default: _contracted})
"""Einstein sums as PyTorch takes them apart: coremltools misreads those that broadcast."""


def _batched(x: Tensor, *rest: Any) -> Tensor:
    made: Tensor = aten.conv2d.default(x[None], *rest)
    return made[0]


SINGLE_IMAGES: Final = WrittenOut(
    "coreml::single_images",
    {aten.conv2d.default: _batched},
    unless=lambda node: "" if value_of(node).dim() == 3 else "a batch",
)
"""A convolution of an image without a batch."""
