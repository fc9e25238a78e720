"""Attention and matrix products of any rank as three-dimensional ones: the others leave an `expand` outside."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.nodes import arguments, value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule

aten = torch.ops.aten


class MatmulByBmm(Rule[None]):
    """Replaces matmul of equal batch dimensions with bmm.

    Before::

        y = matmul(a [..., M, K], b [..., K, N])

    After::

        y = reshape(bmm(reshape(a, [B, M, K]), reshape(b, [B, K, N])), [..., M, N])
    """

    name: ClassVar[str] = "xnnpack::matmul_by_bmm"
    pattern = frozenset({aten.matmul.default, aten.mm.default})

    def check(self, node: fx.Node) -> No | None:
        """Both sides matrices, with the same batch dimensions."""
        a, b = (value_of(arg).shape for arg in arguments(node)[:2])
        if len(a) < 2 or len(b) < 2:
            return No("a side is a vector")
        return None if a[:-2] == b[:-2] else No("the batch dimensions differ")

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """The product over flattened batches."""
        a, b = values(arguments(node)[0]), values(arguments(node)[1])
        return batched(a, b)


class AttentionByBmm(Rule[float]):
    """Replaces scaled_dot_product_attention with bmm, softmax, bmm.

    Before::

        y = scaled_dot_product_attention(q, k, v, mask)

    After::

        y = bmm(softmax(bmm(q · scale, kᵀ) + mask), v)

    PyTorch's own decomposition guards against rows that are masked altogether with six operators that no
    delegate takes.
    """

    name: ClassVar[str] = "xnnpack::attention_by_bmm"
    pattern = frozenset({aten.scaled_dot_product_attention.default})

    def check(self, node: fx.Node) -> float | No:
        """No causal flag, dropout or grouped heads; a mask that is added."""
        rest = dict(zip(("attn_mask", "dropout_p", "is_causal"), arguments(node)[3:], strict=False)) | dict(node.kwargs)
        if rest.get("is_causal") or rest.get("dropout_p") or rest.get("enable_gqa"):
            return No("causal, grouped, or with dropout")
        q, k, v = (value_of(arg).shape for arg in arguments(node)[:3])
        if not q[:-2] == k[:-2] == v[:-2]:
            return No("the batch dimensions differ")
        mask = rest.get("attn_mask")
        if isinstance(mask, fx.Node) and not value_of(mask).is_floating_point():
            return No("the mask is not one that is added")
        scale = rest.get("scale")
        return float(scale) if isinstance(scale, int | float) else 1 / math.sqrt(q[-1])

    def rewrite(self, node: fx.Node, match: float, values: Values) -> Any:
        """Attention over flattened batches."""
        q, k, v = values(tuple(arguments(node)[:3]))
        mask = values(arguments(node)[3] if len(arguments(node)) > 3 else node.kwargs.get("attn_mask"))
        scores = batched(q * match, k.transpose(-1, -2))
        return batched(torch.softmax(scores if mask is None else scores + mask, -1), v)


def batched(a: Tensor, b: Tensor) -> Tensor:
    """a @ b with the batch dimensions flattened to one."""
    shape = (*a.shape[:-1], b.shape[-1])
    flat = torch.bmm(a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:]))
    return flat.reshape(shape)
