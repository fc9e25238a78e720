"""Layer norm as products with a vector of 1/C: the delegate has no norm, and leaving it costs more."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from tm_export.exporters.graph.nodes import arguments
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule

aten = torch.ops.aten


def normalise(x: Tensor, eps: float) -> Tensor:
    """(x − mean)/√(variance + eps) over the last dimension, the mean and variance as linear layers."""
    average = torch.full((1, x.shape[-1]), 1 / x.shape[-1], dtype=x.dtype)
    centred = x - F.linear(x, average)
    return centred * torch.rsqrt(F.linear(centred * centred, average) + eps)


class LayerNormByProducts(Rule[None]):
    """Replaces layer_norm over the last dimension.

    Before::

        y = layer_norm(x, [C], weight, bias, eps)

    After::

        centred = x − linear(x, 1/C);  y = centred · rsqrt(linear(centred², 1/C) + eps) · weight + bias
    """

    name: ClassVar[str] = "xnnpack::layer_norm_by_products"
    pattern = frozenset({aten.layer_norm.default})

    def check(self, node: fx.Node) -> No | None:
        """Norms over one dimension."""
        return None if len(arguments(node)[1]) == 1 else No("normalises over several dimensions")

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """The norm, then its affine part."""
        x, _, weight, bias, eps = _arguments(node, values)
        y = normalise(x, eps)
        y = y if weight is None else y * weight
        return y if bias is None else y + bias


class LinearAfterLayerNorm(Rule[fx.Node]):
    """Folds the affine part of a layer norm into the linear layer that reads it.

    Before::

        y = linear(layer_norm(x, [C], gain, shift), weight, bias)

    After::

        y = linear(normalise(x), weight · gain, bias + weight @ shift)

    The folded weights do not depend on inputs, and are computed at export.
    """

    name: ClassVar[str] = "xnnpack::linear_after_layer_norm"
    pattern = frozenset({aten.linear.default})

    def check(self, node: fx.Node) -> fx.Node | No:
        """The input must be a layer norm with an affine part, over one dimension."""
        norm = arguments(node)[0]
        if not isinstance(norm, fx.Node) or norm.target is not aten.layer_norm.default:
            return No("the input is no layer norm")
        if len(arguments(norm)) < 3 or arguments(norm)[2] is None or len(arguments(norm)[1]) != 1:
            return No("the layer norm has no affine part")
        if any(user.target is not aten.linear.default for user in norm.users):
            return No("others read the layer norm too")
        return norm

    def rewrite(self, node: fx.Node, match: fx.Node, values: Values) -> Any:
        """The linear layer with the gain in its weight and the shift in its bias."""
        x, _, gain, shift, eps = _arguments(match, values)
        weight, bias = values(arguments(node)[1]), values(arguments(node)[2]) if len(arguments(node)) > 2 else None
        if shift is not None:
            moved = torch.mv(weight, shift)
            bias = moved if bias is None else bias + moved
        return F.linear(normalise(x, eps), weight * gain, bias)


def _arguments(node: fx.Node, values: Values) -> tuple[Any, ...]:
    defaults = (None, None, None, None, 1e-5)
    given = values(tuple(arguments(node)))[:5]
    return (*given, *defaults[len(given) :])
