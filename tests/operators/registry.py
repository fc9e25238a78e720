"""Every ATen operator that is tried, with its calls."""

from __future__ import annotations

from typing import Final

import torch
from calls import Call, merged
from elementwise import ELEMENTWISE
from movements import MOVEMENTS
from products import PRODUCTS
from reductions import REDUCTIONS

OPERATORS: Final[dict[str, tuple[Call, ...]]] = dict(merged(ELEMENTWISE, REDUCTIONS, MOVEMENTS, PRODUCTS))
"""By operator, its calls."""

NOT_FORWARD: Final = frozenset({
    "aten._adaptive_avg_pool2d_backward.default", "aten.avg_pool2d_backward.default",
    "aten.convolution_backward.default", "aten.embedding_dense_backward.default",
    "aten.max_pool2d_with_indices_backward.default", "aten.native_group_norm_backward.default",
    "aten.native_layer_norm_backward.default", "aten.atan2.out", "aten.sym_is_contiguous.default",
})  # fmt: skip
"""Operators of the core set that no exported module calls: gradients, one that writes into what it is given, and one
that asks how a tensor lies in memory."""


def core_operators() -> frozenset[str]:
    """The operators that PyTorch tags as its core set.

    By the registry of schemas: `dir(torch.ops.aten)` has only those that were used before in this process.
    """
    schemas = (schema for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("aten::"))
    found = (_operator(schema.name.removeprefix("aten::"), schema.overload_name) for schema in schemas)
    return frozenset(str(operator) for operator in found if operator is not None and torch.Tag.core in operator.tags)


def _operator(name: str, overload: str) -> torch._ops.OpOverload | None:
    """The operator, or None where the interpreter of TorchScript alone has it."""
    return getattr(getattr(torch.ops.aten, name, None), overload or "default", None)
