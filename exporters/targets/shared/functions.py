"""Functions of each number, written out in others: for the targets that lack them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor
from torch._ops import OpOverload

from tm_export.exporters.graph.written_out import Formula

aten = torch.ops.aten


_ERFC: Final = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806,
    0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277,
)  # fmt: skip
"""A polynomial in 1/(1 + |x|/2), the constant first."""


def _hypot(x: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt(x * x + y * y)


def _erfc(x: Tensor) -> Tensor:
    """Within 1.2e-7 of its value everywhere, where 1 − erf(x) is 0 from x = 4 on (Numerical Recipes, section 6.2)."""
    t = 1 / (1 + x.abs() / 2)
    exponent = torch.full((), _ERFC[-1], dtype=x.dtype)
    for coefficient in reversed(_ERFC[:-1]):
        exponent = exponent * t + coefficient
    tail = t * torch.exp(exponent - x * x)
    return torch.where(x >= 0, tail, 2 - tail)


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


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """max(x, 0) + slope · min(x, 0); several slopes lie along dimension 1."""
    if slope.numel() > 1:
        slope = slope.reshape(-1, *[1] * (x.dim() - 2))
    return x.clamp(min=0) + slope * x.clamp(max=0)


def hardswish(x: Tensor) -> Tensor:
    """x·clamp(x + 3, 0, 6)/6."""
    return x * torch.clamp(x + 3, 0, 6) * (1 / 6)


def _exp2(x: Tensor) -> Tensor:
    return torch.exp(x * math.log(2))


def _signbit(x: Tensor) -> Tensor:
    return _negative(x) if x.is_floating_point() else x < 0


def rounded_to(x: Tensor, decimals: int) -> Tensor:
    """To so many decimals; a negative number of them rounds to tens, hundreds and so on."""
    scale = 10.0 ** abs(decimals)
    return torch.round(x * scale) / scale if decimals >= 0 else torch.round(x / scale) * scale


def _mse(x: Tensor, y: Tensor, reduction: int) -> Tensor:
    return _reduced((x - y) * (x - y), reduction)


def _reduced(loss: Tensor, reduction: int) -> Tensor:
    """A loss's `reduction`: none, mean or sum, in PyTorch's own numbers."""
    return (loss, loss.mean(), loss.sum())[reduction] if reduction else loss


FORMULAS: Final[Mapping[OpOverload, Formula]] = {
    aten.hypot.default: _hypot,
    aten.log2.default: _log2,
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
    aten.exp2.default: _exp2,
    aten.special_exp2.default: _exp2,
    aten.signbit.default: _signbit,
}
"""By operator, its value in simpler ones."""
