"""Element-wise operators that coremltools lacks, or whose arguments it does not read."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor, fx

from tm_export.exporters.arguments import bound_arguments
from tm_export.exporters.retrace import value_of
from tm_export.exporters.rules.written_out import WrittenOut

aten = torch.ops.aten

Number = int | float


def _is_plain(node: fx.Node) -> str:
    return "not scaled" if bound_arguments(node)["alpha"] == 1 else ""


def _plus(x: Any, y: Any, alpha: Number) -> Tensor:
    return torch.add(x, y * alpha)


def _minus(x: Any, y: Any, alpha: Number) -> Tensor:
    return torch.sub(x, y * alpha)


def _minus_from(x: Any, y: Any, alpha: Number) -> Tensor:
    return torch.add(x * -alpha, y)


SCALED_SUMS: Final = WrittenOut(
    "coreml::scaled_sums",
    {
        aten.add.Tensor: _plus,
        aten.add.Scalar: _plus,
        aten.sub.Tensor: _minus,
        aten.sub.Scalar: _minus,
        aten.rsub.Tensor: _minus_from,
        aten.rsub.Scalar: _minus_from,
    },
    unless=_is_plain,
)
"""`x + alpha·y`: coremltools drops the factor."""


def _truncated(x: Tensor) -> Tensor:
    return x.sign() * x.abs().floor() if x.is_floating_point() else x


def _fraction(x: Tensor) -> Tensor:
    return x - _truncated(x)


def _rounded_to(x: Tensor, decimals: int) -> Tensor:
    scale = 10.0 ** abs(decimals)
    return torch.round(x * scale) / scale if decimals >= 0 else torch.round(x / scale) * scale


def _fmod(x: Any, y: Any) -> Tensor:
    return torch.sign(x) * torch.remainder(torch.abs(x), torch.abs(y) if isinstance(y, Tensor) else abs(y))


def _divided(x: Any, y: Any, rounding_mode: str | None) -> Tensor:
    quotient = torch.true_divide(x, y)
    if rounding_mode is None:
        return quotient
    return _truncated(quotient) if rounding_mode == "trunc" else torch.floor(quotient)


def _floor_divided(x: Any, y: Any) -> Tensor:
    return _divided(x, y, "floor")


ROUNDED: Final = WrittenOut(
    "coreml::rounded",
    {
        aten.trunc.default: _truncated,
        aten.fix.default: _truncated,
        aten.frac.default: _fraction,
        aten.round.decimals: _rounded_to,
        aten.fmod.Tensor: _fmod,
        aten.fmod.Scalar: _fmod,
        aten.div.Tensor_mode: _divided,
        aten.div.Scalar_mode: _divided,
        aten.floor_divide.default: _floor_divided,
        aten.floor_divide.Scalar: _floor_divided,
    },
    unless=lambda node: "" if value_of(node).is_floating_point() else "integers",
)
"""What rounds, and divisions that do."""


def _hypot(x: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt(x * x + y * y)


def _erfc(x: Tensor) -> Tensor:
    return 1 - torch.erf(x)


def _negative(x: Tensor) -> Tensor:
    """Whether x is less than zero, or minus zero."""
    return (x < 0) | ((x == 0) & (1 / x < 0))


def _copysign(x: Tensor, y: Tensor) -> Tensor:
    return torch.where(_negative(y), -x.abs(), x.abs())


def _heaviside(x: Tensor, at_zero: Tensor) -> Tensor:
    return torch.where(x == 0, at_zero, (x > 0).to(x.dtype))


def _logaddexp(x: Tensor, y: Tensor) -> Tensor:
    larger = torch.maximum(x, y)
    return torch.where(x == y, x + math.log(2), larger + torch.log1p(torch.exp(-(x - y).abs())))


def _xlogy(x: Tensor, y: Tensor) -> Tensor:
    return torch.where(x == 0, torch.zeros((), dtype=x.dtype), x * torch.log(y))


def _sinc(x: Tensor) -> Tensor:
    angle = torch.where(x == 0, torch.ones((), dtype=x.dtype), x * math.pi)
    return torch.where(x == 0, torch.ones((), dtype=x.dtype), torch.sin(angle) / angle)


def _asinh(x: Tensor) -> Tensor:
    return x.sign() * torch.log(x.abs() + torch.sqrt(x * x + 1))


def _acosh(x: Tensor) -> Tensor:
    return torch.log(x + torch.sqrt(x * x - 1))


def _logit(x: Tensor, eps: float | None) -> Tensor:
    within = x if eps is None else x.clamp(eps, 1 - eps)
    return torch.log(within / (1 - within))


def _log2(x: Tensor) -> Tensor:
    return torch.log(x) * (1 / math.log(2))


def _reciprocal(x: Tensor) -> Tensor:
    """By division: Core ML's `inverse` adds 1e-4 to what it divides by."""
    return torch.true_divide(torch.ones((), dtype=torch.promote_types(x.dtype, torch.float16)), x)


def _softplus(x: Tensor, beta: float, threshold: float) -> Tensor:
    """log(1 + exp(βx))/β below the threshold, and x above it."""
    scaled = x * beta
    return torch.where(scaled > threshold, x, aten.softplus.default(scaled) * (1 / beta))


def _fmax(x: Tensor, y: Tensor) -> Tensor:
    return torch.where(x.isnan(), y, torch.where(y.isnan(), x, torch.maximum(x, y)))


def _fmin(x: Tensor, y: Tensor) -> Tensor:
    return torch.where(x.isnan(), y, torch.where(y.isnan(), x, torch.minimum(x, y)))


def _atan2(y: Tensor, x: Tensor) -> Tensor:
    """The angle of (x, y): that of the smaller part over the larger one, turned into its quadrant."""
    steep = y.abs() > x.abs()
    smaller, larger = torch.minimum(y.abs(), x.abs()), torch.maximum(y.abs(), x.abs())
    angle = torch.atan(smaller / torch.where(larger == 0, torch.ones((), dtype=x.dtype), larger))
    angle = torch.where(steep, math.pi / 2 - angle, angle)
    angle = torch.where(_negative(x), math.pi - angle, angle)
    return torch.where(_negative(y), -angle, angle)


def _mse(x: Tensor, y: Tensor, reduction: int) -> Tensor:
    return _reduced((x - y) * (x - y), reduction)


def _reduced(loss: Tensor, reduction: int) -> Tensor:
    """A loss's `reduction`: none, mean or sum, in PyTorch's own numbers."""
    return (loss, loss.mean(), loss.sum())[reduction] if reduction else loss


FUNCTIONS: Final = WrittenOut(
    "coreml::functions",
    {
        aten.hypot.default: _hypot,
        aten.log2.default: _log2,
        aten.reciprocal.default: _reciprocal,
        aten.fmax.default: _fmax,
        aten.fmin.default: _fmin,
        aten.atan2.default: _atan2,
        aten.erfc.default: _erfc,
        aten.special_erfc.default: _erfc,
        aten.copysign.Tensor: _copysign,
        aten.heaviside.default: _heaviside,
        aten.logaddexp.default: _logaddexp,
        aten.xlogy.Tensor: _xlogy,
        aten.special_xlogy.default: _xlogy,
        aten.sinc.default: _sinc,
        aten.special_sinc.default: _sinc,
        aten.asinh.default: _asinh,
        aten.acosh.default: _acosh,
        aten.logit.default: _logit,
        aten.special_logit.default: _logit,
        aten.mse_loss.default: _mse,
    },
)
"""Functions of each number."""

_USUAL_THRESHOLD: Final = 15
"""Above this, log(1 + exp(x)) is x in 32 bits."""

EARLY_LINES: Final = WrittenOut(
    "coreml::early_lines",
    {aten.softplus.default: _softplus},
    unless=lambda node: "nothing is cut off" if bound_arguments(node)["threshold"] >= _USUAL_THRESHOLD else "",
)
"""Softplus with a threshold that can be seen, which coremltools ignores."""
