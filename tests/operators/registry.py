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
    "aten.native_layer_norm_backward.default", "aten.atan2.out",
})  # fmt: skip
"""Operators of the core set that no exported module calls: gradients, and one that writes into what it is given."""


def core_operators() -> frozenset[str]:
    """The operators that PyTorch tags as its core set."""
    packets = (getattr(torch.ops.aten, name) for name in dir(torch.ops.aten))
    found = (getattr(packet, each) for packet in packets if hasattr(packet, "overloads") for each in packet.overloads())
    return frozenset(str(operator) for operator in found if torch.Tag.core in operator.tags)
