"""Element-wise operators that coremltools lacks, or whose arguments it does not read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.written_out import Formula, WrittenOut, as_tensor
from tm_export.exporters.targets.shared.functions import FORMULAS, hardswish, prelu, rounded_to

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


def _fmod(x: Any, y: Any) -> Tensor:
    return torch.sign(x) * torch.remainder(torch.abs(x), torch.abs(y) if isinstance(y, Tensor) else abs(y))


def _divided(x: Any, y: Any, rounding_mode: str | None) -> Tensor:
    dtype = torch.promote_types(torch.result_type(x, y), torch.float16)
    quotient = torch.div(as_tensor(x, dtype), as_tensor(y, dtype))
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
        aten.round.decimals: rounded_to,
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


def _reciprocal(x: Tensor) -> Tensor:
    """By division: Core ML's `inverse` adds 1e-4 to what it divides by."""
    return torch.true_divide(torch.ones((), dtype=torch.promote_types(x.dtype, torch.float16)), x)


def _isinf(x: Tensor) -> Tensor:
    return x.abs() == math.inf


def _log(of: Callable[[Tensor], Tensor]) -> Formula:
    """Core ML's `log` adds 1e-45 to what it is of: of zero it is not infinite."""
    return lambda x: torch.where(x == 0, torch.full((), -math.inf, dtype=x.dtype), of(x))


def _softplus(x: Tensor, beta: float, threshold: float) -> Tensor:
    """log(1 + exp(βx))/β below the threshold, and x above it."""
    scaled = x * beta
    return torch.where(scaled > threshold, x, aten.softplus.default(scaled) * (1 / beta))


def _on_arrays(formula: Formula) -> Formula:
    """The same of single numbers, as arrays of one: coremltools cannot write a choice between single numbers."""

    def on_arrays(*given: Any) -> Any:
        tensors = [each for each in given if isinstance(each, Tensor)]
        if any(each.dim() for each in tensors):
            return formula(*given)
        return formula(*(each.unsqueeze(0) if isinstance(each, Tensor) else each for each in given)).squeeze(0)

    return on_arrays


_FUNCTIONS: Final[Mapping[OpOverload, Formula]] = {
    **FORMULAS,
    aten.isinf.default: _isinf,
    aten.log.default: _log(torch.log),
    aten.log2.default: _log(FORMULAS[aten.log2.default]),
    aten.log10.default: _log(lambda x: torch.log(x) * (1 / math.log(10))),
    aten.reciprocal.default: _reciprocal,
    aten.hardswish.default: hardswish,  # coremltools' thresholded ReLU writes into its operand where it is folded
}

FUNCTIONS: Final = WrittenOut("coreml::functions", {op: _on_arrays(each) for op, each in _FUNCTIONS.items()})
"""Functions of each number."""

PRELUS: Final = WrittenOut(
    "coreml::prelus",
    {aten.prelu.default: prelu, aten._prelu_kernel.default: prelu},
    unless=lambda node: "an image" if value_of(node).dim() == 4 else "",
)
"""PReLU of anything but images."""

_USUAL_THRESHOLD: Final = 15
"""Above this, log(1 + exp(x)) is x in 32 bits."""

EARLY_LINES: Final = WrittenOut(
    "coreml::early_lines",
    {aten.softplus.default: _softplus},
    unless=lambda node: "nothing is cut off" if bound_arguments(node)["threshold"] >= _USUAL_THRESHOLD else "",
)
"""Softplus with a threshold that can be seen, which coremltools ignores."""
