"""Operators that do nothing, or one thing alone, to whole numbers, and for which kernels of floats exist alone."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.written_out import Formula, WrittenOut

aten = torch.ops.aten


def _same(x: Tensor) -> Tensor:
    return x


def _never(x: Tensor) -> Tensor:
    return torch.zeros(x.shape, dtype=torch.bool)


def _always(x: Tensor) -> Tensor:
    return torch.ones(x.shape, dtype=torch.bool)


def _positive(x: Tensor) -> Tensor:
    return x.clamp(min=0)


def _is_of_floats(node: fx.Node) -> str:
    return "floats" if value_of(node.all_input_nodes[0]).is_floating_point() else ""


WHOLE_NUMBERS: Final = WrittenOut(
    "normalise::whole_numbers",
    {
        aten.round.default: _same,
        aten.floor.default: _same,
        aten.ceil.default: _same,
        aten.trunc.default: _same,
        aten.fix.default: _same,
        aten.isnan.default: _never,
        aten.isinf.default: _never,
        aten.isfinite.default: _always,
        aten.relu.default: _positive,
    },
    unless=_is_of_floats,
)
"""What is whole already, and no NaN."""


SIGNS: Final = WrittenOut(
    "normalise::signs",
    {aten.sign.default: _same, aten.sgn.default: _same},
    unless=lambda node: "" if value_of(node).dtype == torch.bool else "numbers",
)
"""Of truth values."""


def _of_floats(op: OpOverload) -> Formula:
    return lambda x, *rest: op(x.to(torch.float32), *rest)


_FUNCTIONS: Final = (
    aten.acos.default, aten.acosh.default, aten.asin.default, aten.asinh.default, aten.atan.default,
    aten.atanh.default, aten.cos.default, aten.cosh.default, aten.erf.default, aten.erfc.default, aten.exp.default,
    aten.exp2.default, aten.expm1.default, aten.log.default, aten.log10.default, aten.log1p.default,
    aten.log2.default, aten.logit.default, aten.reciprocal.default, aten.rsqrt.default, aten.sigmoid.default,
    aten.sin.default, aten.sinc.default, aten.sinh.default, aten.sqrt.default, aten.tan.default, aten.tanh.default,
    aten.special_exp2.default, aten.special_erfc.default, aten.special_logit.default, aten.special_sinc.default,
)  # fmt: skip
FUNCTIONS: Final = WrittenOut(
    "normalise::functions",
    {op: _of_floats(op) for op in _FUNCTIONS},
    unless=_is_of_floats,
)
"""Functions whose result is no whole number: of floats."""


def _angle(y: Tensor, x: Tensor) -> Tensor:
    return torch.atan2(y.to(torch.float32), x.to(torch.float32))


ANGLES: Final = WrittenOut(
    "normalise::angles",
    {aten.atan2.default: _angle},
    unless=lambda node: "floats" if all(value_of(each).is_floating_point() for each in node.all_input_nodes) else "",
)
"""The same of two."""


def _within(x: Tensor, least: float | None, most: float | None) -> Tensor:
    bounds = [None if bound is None or math.isinf(bound) else bound for bound in (least, most)]
    x = x.to(torch.result_type(x, 0.0))
    return x if bounds == [None, None] else x.clamp(*bounds)


def _has_an_infinite_bound(node: fx.Node) -> str:
    given = bound_arguments(node)
    least, most = given["min"], given["max"]
    return "" if least == -math.inf or most == math.inf else "finite bounds"


BOUNDS: Final = WrittenOut("normalise::bounds", {aten.clamp.default: _within}, unless=_has_an_infinite_bound)
"""A bound at infinity is none; what it is a bound of becomes a float."""
