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
    split = rows.reshape(*x.shape[:dim], count, size, *x.shape[dim + 1 :])
    return split.permute(*range(dim + 1), *range(dim + 2, split.dim()), dim + 1)


WINDOWS: Final = WrittenOut("coreml::windows", {aten.unfold.default: _windows})
"""`x.unfold(dim, size, step)`."""


def _where_of_numbers(condition: Tensor, x: Any, y: Any) -> Tensor:
    dtype = torch.result_type(x, y)
    x, y = (as_tensor(each, dtype).unsqueeze(0) for each in (x, y))
    return aten.where.self(condition.unsqueeze(0), x, y).squeeze(0)


def _where(condition: Tensor, x: Any, y: Any) -> Tensor:
    dtype = torch.result_type(x, y)
    x, y = as_tensor(x, dtype), as_tensor(y, dtype)
    return (
        aten.where.self(condition, x, y)
        if condition.dim() or x.dim() or y.dim()
        else _where_of_numbers(condition, x, y)
    )


def _is_between_tensors(node: fx.Node) -> str:
    given = bound_arguments(node)
    operands = [given[name].meta["val"] for name in ("self", "other") if isinstance(given[name], fx.Node)]
    same = len(operands) == 2 and operands[0].dtype == operands[1].dtype
    return "tensors of one dtype" if same and value_of(node).dim() else ""


CHOICES: Final = WrittenOut(
    "coreml::choices",
    dict.fromkeys((aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf, aten.where.Scalar), _where),
    unless=_is_between_tensors,
)
"""`where` of numbers and of single ones: coremltools wants one dtype, and cannot write a shape without entries."""


def _rolled(x: Tensor, shifts: list[int], dims: list[int]) -> Tensor:
    return torch.roll(x.reshape(-1), shifts, [0]).reshape(x.shape)


ROLLS: Final = WrittenOut(
    "coreml::rolls",
    {aten.roll.default: _rolled},
    unless=lambda node: "along dimensions" if bound_arguments(node)["dims"] else "",
)
"""A roll of all entries in a row."""


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


def _clamped(x: Tensor, lower: Tensor | None, upper: Tensor | None) -> Tensor:
    dtype = x.dtype
    for bound in (lower, upper):
        dtype = dtype if bound is None else torch.promote_types(dtype, bound.dtype)
    x = as_tensor(x, dtype)
    x = x if lower is None else torch.maximum(x, as_tensor(lower, dtype))
    return x if upper is None else torch.minimum(x, as_tensor(upper, dtype))


CLAMPS: Final = WrittenOut("coreml::clamps", {aten.clamp.Tensor: _clamped})
"""A clamp between tensors."""


def _added_along(x: Tensor, dim: int, index: Tensor, source: Tensor, alpha: float) -> Tensor:
    """Each row of the source is added to the row that its index names: as often as it is named."""
    dim = from_front(dim, x.dim())
    spread = index.reshape([-1 if i == dim else 1 for i in range(x.dim())]).expand(source.shape)
    return x.scatter_add(dim, spread, source if alpha == 1 else source * alpha)


def _added_at(x: Tensor, indices: list[Tensor | None], values: Tensor, _: bool) -> Tensor:
    """Sums at places that are named by an index for each of the first dimensions."""
    first = torch.broadcast_tensors(*(index for index in indices if index is not None))
    flat, sizes = torch.zeros_like(first[0]), x.shape[: len(first)]
    for index, size in zip(first, sizes, strict=True):
        flat = flat * size + torch.where(index < 0, index + size, index)
    rest = x.shape[len(first) :]
    rows = x.reshape(sizes.numel(), rest.numel())
    source = values.expand(*flat.shape, *rest).reshape(flat.numel(), rest.numel())
    made = rows.scatter_add(0, flat.reshape(-1, 1).expand(source.shape), source)
    return made.reshape(x.shape)


def _is_a_write_or_scattered(node: fx.Node) -> str:
    given = bound_arguments(node)
    if node.target is aten.index_add.default:
        return ""
    if not given["accumulate"]:
        return "a write"
    return (
        ""
        if all(index is not None and value_of(index).dtype != torch.bool for index in given["indices"])
        else "not of rows"
    )


ADDITIONS: Final = WrittenOut(
    "coreml::additions",
    {aten.index_add.default: _added_along, aten.index_put.default: _added_at},
    unless=_is_a_write_or_scattered,
)
"""Sums by index, which coremltools takes as `scatter_add` alone."""


def _folded(
    x: Tensor, size: list[int], kernel: list[int], dilation: list[int], padding: list[int], stride: list[int]
) -> Tensor:
    """Windows put back where they were cut out, sums where they overlap: the inverse of `unfold`'s places."""
    height, width = (n + 2 * p for n, p in zip(size, padding, strict=True))
    rows, columns = (
        (torch.arange(k)[:, None] * d + torch.arange((n - d * (k - 1) - 1) // s + 1) * s)
        for k, d, n, s in zip(kernel, dilation, (height, width), stride, strict=True)
    )
    places = rows[:, None, :, None] * width + columns[None, :, None, :]
    channels = x.shape[-2] // (kernel[0] * kernel[1])
    values = x.reshape(-1, channels, places.numel())
    summed = torch.zeros(values.shape[0], channels, height * width).scatter_add(
        2, places.reshape(1, 1, -1).expand(values.shape), values
    )
    whole = summed.reshape(*x.shape[:-2], channels, height, width)
    return whole[..., padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]


FOLDS: Final = WrittenOut("coreml::folds", {aten.col2im.default: _folded})
"""`fold`, of windows that overlap too."""


def _added_product(x: Tensor, matrix: Tensor, vector: Tensor, beta: float, alpha: float) -> Tensor:
    return x * beta + torch.mv(matrix, vector) * alpha


ADDED_PRODUCTS: Final = WrittenOut("coreml::added_products", {aten.addmv.default: _added_product})
"""A matrix times a vector, beside another vector."""


def _same(x: Tensor) -> Tensor:
    return x


OTHER_NAMES: Final = WrittenOut(
    "coreml::other_names",
    {aten.alias.default: _same, aten.detach.default: _same, aten.lift_fresh_copy.default: _same},
)
"""The same tensor under another name."""
