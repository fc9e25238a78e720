"""Which values of a program may be infinite: zero times infinity is NaN, so no product may move their rows."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch
import torch.utils._pytree as pytree
from torch import fx

from tm_export.exporters.graph.constants import constant_of
from tm_export.exporters.graph.nodes import arguments, is_float

aten = torch.ops.aten

_MAKES_INFINITE: Final = {aten.log.default, aten.log2.default, aten.log10.default, aten.log1p.default}

_MAKES_FINITE: Final = {
    aten.softmax.int, aten._softmax.default, aten.sigmoid.default, aten.tanh.default, aten.exp.default,
    aten.nan_to_num.default, aten.scaled_dot_product_attention.default,
}  # fmt: skip


def possibly_infinite(graph: fx.Graph) -> frozenset[fx.Node]:
    """The floating-point values that a fill with infinity, or a logarithm of zero, may have reached.

    Inputs and weights are taken to be finite, and so is what a softmax or an exponential makes of a masked score.
    """
    found: set[fx.Node] = set()
    for node in graph.nodes:
        constant = constant_of(node)
        if constant is not None:
            if constant.dtype.kind == "f" and not np.isfinite(constant).all():
                found.add(node)
        elif node.op == "call_function" and _holds_floats(node) and node.target not in _MAKES_FINITE:
            reached = any(source in found for source in node.all_input_nodes)
            if reached or node.target in _MAKES_INFINITE or _fills_with_infinity(node):
                found.add(node)
    return frozenset(found)


def _holds_floats(node: fx.Node) -> bool:
    return is_float(node) or isinstance(node.meta.get("val"), list | tuple)


def _fills_with_infinity(node: fx.Node) -> bool:
    numbers: list[Any] = pytree.tree_leaves((arguments(node), node.kwargs))
    return any(isinstance(number, float) and not math.isfinite(number) for number in numbers)
