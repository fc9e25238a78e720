"""Batch norm in evaluation is one factor and one shift for each channel: folded into a convolution, or written out.

XNNPACK's delegate takes a batch norm into a convolution and frees its constants, which the portable kernel then still
reads where the delegate left the norm; the delegate has none of its own.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule

aten = torch.ops.aten


def _factor_and_shift(node: fx.Node, values: Values) -> tuple[Tensor, Tensor]:
    """What the norm multiplies by and adds, each [C]; they do not depend on inputs, and are computed at export."""
    given = bound_arguments(node)
    weight, bias, mean, variance = (values(given[name]) for name in ("weight", "bias", "running_mean", "running_var"))
    factor = torch.rsqrt(variance + given["eps"])
    factor = factor if weight is None else factor * weight
    shift = -mean * factor
    return factor, shift if bias is None else shift + bias


def _normed(y: Tensor) -> tuple[Tensor, None, None]:
    """What the operator gives: the result, and two statistics that are empty in evaluation."""
    return y, None, None


class ConvThenBatchNorm(Rule[fx.Node]):
    """Folds a batch norm in evaluation into the convolution before it.

    Before::

        y = batch_norm(convolution(x, weight [O, I, …], bias), gain, shift, mean, variance)

    After::

        factor = gain / √(variance + eps)
        y = convolution(x, weight · factor, (bias − mean) · factor + shift)
    """

    name: ClassVar[str] = "xnnpack::conv_then_batch_norm"
    pattern = frozenset({aten._native_batch_norm_legit_no_training.default})

    def check(self, node: fx.Node) -> fx.Node | No:
        """The convolution must be read by the norm alone."""
        before = node.args[0]
        if not isinstance(before, fx.Node) or before.target not in (aten.conv1d.default, aten.conv2d.default):
            return No("the input is no convolution")
        return before if len(before.users) == 1 else No("others read the convolution too")

    def rewrite(self, node: fx.Node, match: fx.Node, values: Values) -> Any:
        """The convolution with the norm in its weight and bias."""
        factor, shift = _factor_and_shift(node, values)
        given = {name: values(value) for name, value in bound_arguments(match).items()}
        weight, bias = given["weight"], given["bias"]
        given["weight"] = weight * factor.reshape(-1, *[1] * (weight.dim() - 1))
        given["bias"] = shift if bias is None else bias * factor + shift
        assert callable(match.target)
        return _normed(match.target(*given.values()))


class BatchNormByFactor(Rule[None]):
    """Replaces batch norm in evaluation.

    Before::

        y = batch_norm(x [B, C, …], gain, shift, mean, variance)

    After::

        y = x · (gain / √(variance + eps)) + (shift − mean · gain / √(variance + eps))
    """

    name: ClassVar[str] = "xnnpack::batch_norm_by_factor"
    pattern = frozenset({aten._native_batch_norm_legit_no_training.default})

    def check(self, node: fx.Node) -> None:
        """Every one."""

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """A product and a sum, channel by channel."""
        x = values(node.args[0])
        factor, shift = (each.reshape(-1, *[1] * (x.dim() - 2)) for each in _factor_and_shift(node, values))
        return _normed(x * factor + shift)
