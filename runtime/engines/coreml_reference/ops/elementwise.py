"""Element-wise operations: arithmetic, comparison, logic, activations, casts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tm_export.runtime.engines.coreml_reference.ops.table import Table


def _cast(x: Tensor, dtype: str) -> Tensor:
    # The evaluator stores every result in its declared type: rounding, truncating towards zero, or != 0.
    return x


def _floor_div(x: Tensor, y: Tensor) -> Tensor:
    return torch.div(x, y, rounding_mode="floor")


def _floor_mod(x: Tensor, y: Tensor) -> Tensor:
    # Takes the divisor's sign, as Python's % does.
    return torch.remainder(x, y)


def _clip(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return torch.clamp(x, alpha, beta)


def _inverse(x: Tensor, epsilon: Tensor) -> Tensor:
    return 1 / (x + epsilon)


def _log(x: Tensor, epsilon: Tensor) -> Tensor:
    return torch.log(x + epsilon)


def _rsqrt(x: Tensor, epsilon: Tensor) -> Tensor:
    return torch.rsqrt(x + epsilon)


def _threshold(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.maximum(x, alpha)


def _gelu(x: Tensor, mode: str) -> Tensor:
    match mode:
        case "EXACT":
            return F.gelu(x)
        case "TANH_APPROXIMATION":
            return F.gelu(x, approximate="tanh")
        case "SIGMOID_APPROXIMATION":
            return x * torch.sigmoid(1.702 * x)
    raise ValueError(f"gelu has no mode {mode!r}")


def _along_channels(alpha: Tensor, x: Tensor) -> Tensor:
    """A vector over axis 1, shaped to broadcast with x."""
    return alpha.reshape(-1, *[1] * (x.ndim - 2))


def _prelu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x > 0, x, _along_channels(alpha, x) * x)


def _softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return _along_channels(alpha, x) * _softplus(_along_channels(beta, x) * x)


def _softplus(x: Tensor) -> Tensor:
    return torch.logaddexp(x, torch.zeros_like(x))


def _leaky_relu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x >= 0, x, alpha * x)


def _elu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x > 0, x, alpha * torch.expm1(x))


def _clamped_relu(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return torch.minimum(_leaky_relu(x, alpha), beta)


def _linear_activation(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return alpha * x + beta


def _scaled_tanh(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return alpha * torch.tanh(beta * x)


def _sigmoid_hard(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return torch.clamp(alpha * x + beta, 0, 1)


def _thresholded_relu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x >= alpha, x, 0)


TABLE: Table = {
    # Built-in torch functions have no Python signature; each is wrapped to have MIL's parameter names.
    "abs": lambda x: torch.abs(x),
    "acos": lambda x: torch.acos(x),
    "asin": lambda x: torch.asin(x),
    "atan": lambda x: torch.atan(x),
    "atanh": lambda x: torch.atanh(x),
    "ceil": lambda x: torch.ceil(x),
    "cos": lambda x: torch.cos(x),
    "cosh": lambda x: torch.cosh(x),
    "erf": lambda x: torch.erf(x),
    "exp": lambda x: torch.exp(x),
    "exp2": lambda x: torch.exp2(x),
    "floor": lambda x: torch.floor(x),
    "logical_not": lambda x: torch.logical_not(x),
    "relu": lambda x: torch.relu(x),
    "relu6": lambda x: torch.clamp(x, 0, 6),
    "round": lambda x: torch.round(x),
    "sigmoid": lambda x: torch.sigmoid(x),
    "sign": lambda x: torch.sign(x),
    "silu": lambda x: F.silu(x),
    "sin": lambda x: torch.sin(x),
    "sinh": lambda x: torch.sinh(x),
    "softplus": _softplus,
    "softsign": lambda x: F.softsign(x),
    "sqrt": lambda x: torch.sqrt(x),
    "square": lambda x: torch.square(x),
    "tan": lambda x: torch.tan(x),
    "tanh": lambda x: torch.tanh(x),
    "add": lambda x, y: x + y,
    "equal": lambda x, y: x == y,
    "floor_div": _floor_div,
    "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y,
    "less": lambda x, y: x < y,
    "less_equal": lambda x, y: x <= y,
    "logical_and": lambda x, y: torch.logical_and(x, y),
    "logical_or": lambda x, y: torch.logical_or(x, y),
    "logical_xor": lambda x, y: torch.logical_xor(x, y),
    "maximum": lambda x, y: torch.maximum(x, y),
    "minimum": lambda x, y: torch.minimum(x, y),
    "mod": _floor_mod,
    "mul": lambda x, y: x * y,
    "not_equal": lambda x, y: x != y,
    "pow": lambda x, y: torch.pow(x, y),
    "real_div": lambda x, y: x / y,
    "sub": lambda x, y: x - y,
    "cast": _cast,
    "clamped_relu": _clamped_relu,
    "clip": _clip,
    "elu": _elu,
    "gelu": _gelu,
    "inverse": _inverse,
    "leaky_relu": _leaky_relu,
    "linear_activation": _linear_activation,
    "log": _log,
    "prelu": _prelu,
    "rsqrt": _rsqrt,
    "scaled_tanh": _scaled_tanh,
    "sigmoid_hard": _sigmoid_hard,
    "softplus_parametric": _softplus_parametric,
    "threshold": _threshold,
    "thresholded_relu": _thresholded_relu,
}
