"""Attention, contractions and convolutions in the forms that coremltools reads."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.written_out import WrittenOut

aten = torch.ops.aten


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
    attend = aten.scaled_dot_product_attention.default
    made: Tensor = attend(query, key, value, mask, dropout, is_causal, scale=scale)
    return made


GROUPED_ATTENTION: Final = WrittenOut(
    "coreml::grouped_attention",
    {aten.scaled_dot_product_attention.default: _grouped_attention},
    unless=lambda node: "" if bound_arguments(node)["enable_gqa"] else "a key for each head",
)


def contracted(equation: str, operands: list[Tensor], _: Any) -> Tensor:
    """An Einstein sum as PyTorch takes it apart."""
    made: Tensor = aten.einsum.default.decompose(equation, operands)
    return made


CONTRACTIONS: Final = WrittenOut("coreml::contractions", {aten.einsum.default: contracted})
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


def _added_product(x: Tensor, left: Tensor, right: Tensor, beta: float, alpha: float) -> Tensor:
    return x * beta + torch.matmul(left, right) * alpha


_ADDED: Final = (aten.addmv.default, aten.addmm.default, aten.baddbmm.default)
ADDED_PRODUCTS: Final = WrittenOut(
    "coreml::added_products",
    dict.fromkeys(_ADDED, _added_product),
    unless=lambda node: "a plain sum" if node.target is aten.addmm.default and not node.kwargs else "",
)
"""A product and something added to it, each with its factor."""


def _product_with_vector(x: Tensor, y: Tensor) -> Tensor:
    made = torch.matmul(x[None] if x.dim() == 1 else x, y[:, None] if y.dim() == 1 else y)
    made = made[..., 0] if y.dim() == 1 else made
    return made.squeeze(-1 if y.dim() == 1 else -2) if x.dim() == 1 else made


def _keeps_matrices(node: fx.Node) -> str:
    return "" if any(value_of(each).dim() == 1 for each in node.all_input_nodes) else "both are matrices"


VECTORS: Final = WrittenOut("coreml::vectors", {aten.matmul.default: _product_with_vector}, unless=_keeps_matrices)
"""A product with a vector, as one with a matrix of one row or column: coremltools broadcasts it wrongly."""
