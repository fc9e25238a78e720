"""Attention of any rank as attention over [B, H, N, D]: the only one that ONNX's exporter has."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule

aten = torch.ops.aten


class AttentionOverOneBatch(Rule[None]):
    """Replaces scaled_dot_product_attention of other ranks than four.

    Before::

        y = scaled_dot_product_attention(q [..., N, D], k, v, mask)

    After, P the product of the dimensions in front::

        y = reshape(scaled_dot_product_attention(q [1, P, N, D], k, v, mask [1, P, N, M]), [..., N, D])
    """

    name: ClassVar[str] = "onnx::attention_over_one_batch"
    pattern = frozenset({aten.scaled_dot_product_attention.default})

    def check(self, node: fx.Node) -> No | None:
        """Of another rank than four, the same dimensions in front of all three."""
        given = bound_arguments(node)
        query, key, value = (value_of(given[name]).shape for name in ("query", "key", "value"))
        if len(query) == 4:
            return No("of rank four")
        return None if query[:-2] == key[:-2] == value[:-2] else No("the dimensions in front differ")

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """All heads of all batches as the heads of one."""
        given = values(bound_arguments(node))
        query, key, value, mask = (given[name] for name in ("query", "key", "value", "attn_mask"))
        batch = query.shape[:-2]
        if isinstance(mask, Tensor) and mask.dim() > 2:
            mask = _flat(mask.expand(*batch, *mask.shape[-2:]))
        q, k, v = _flat(query), _flat(key), _flat(value)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=given["is_causal"], scale=given["scale"])
        return y.reshape(*batch, *y.shape[-2:])


def _flat(x: Tensor) -> Tensor:
    return x.reshape(1, -1, *x.shape[-2:])
