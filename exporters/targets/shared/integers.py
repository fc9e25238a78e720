"""Integer arithmetic as PyTorch has it, where converters and kernels compute as C does, or in floats."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule
from tm_export.exporters.graph.written_out import WrittenOut

aten = torch.ops.aten

MOST_FACTORS: Final = 8
"""Powers up to this are products; more multiplications than that no program writes of integers."""


class RemainderByFloor(Rule[None]):
    """Replaces the remainder of integers.

    Before::

        y = remainder(a, b)

    After::

        y = a − floor(a / b) · b

    ExecuTorch's kernel gives it the sign of `a`, as C does; PyTorch, as Python, that of `b`. Its floor division is
    right.
    """

    name: ClassVar[str] = "executorch::remainder_by_floor"
    pattern = frozenset({aten.remainder.Scalar, aten.remainder.Tensor, aten.remainder.Scalar_Tensor})

    def check(self, node: fx.Node) -> No | None:
        """Of integers."""
        return _whole(value_of(node))

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """What is left when the whole multiples of `b` are taken away."""
        given = values(bound_arguments(node))
        dtype = value_of(node).dtype
        a, b = (_tensor(given[name], dtype) for name in ("self", "other"))
        return a - torch.div(a, b, rounding_mode="floor") * b


class SumByRunningSum(Rule[None]):
    """Replaces a sum of integers by the last entry of their running sum.

    ExecuTorch's kernel adds in floats, so that sums beyond 2²⁴ lose digits; its running sum adds in the integers'
    type.
    """

    name: ClassVar[str] = "executorch::sum_by_running_sum"
    pattern = frozenset({aten.sum.default, aten.sum.dim_IntList})

    def check(self, node: fx.Node) -> No | None:
        """Sums of integers; truth values are counted, which floats do exactly up to 2²⁴ of them."""
        x = value_of(bound_arguments(node)["self"])
        if x.dtype == torch.bool or x.numel() == 0 or x.dim() == 0:
            return No("nothing that can grow large")
        return _whole(x) or _whole(value_of(node))

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """Summed over the dimensions one by one, the last first."""
        given = bound_arguments(node)
        x = values(given["self"]).to(value_of(node).dtype)
        dims = given.get("dim") or range(x.dim())
        for dim in sorted({from_front(dim, x.dim()) for dim in dims}, reverse=True):
            x = x.cumsum(dim, dtype=x.dtype).narrow(dim, x.shape[dim] - 1, 1)
        return x.reshape(value_of(node).shape)


class PowerByProducts(Rule[int]):
    """Replaces a small power of integers by products: ExecuTorch's kernel computes it in floats."""

    name: ClassVar[str] = "executorch::power_by_products"
    pattern = frozenset({aten.pow.Tensor_Scalar})

    def check(self, node: fx.Node) -> int | No:
        """A whole exponent from 1 to `MOST_FACTORS`."""
        exponent = bound_arguments(node)["exponent"]
        if not isinstance(exponent, int) or not 1 <= exponent <= MOST_FACTORS:
            return No("not a small whole exponent")
        return _whole(value_of(node)) or exponent

    def rewrite(self, node: fx.Node, match: int, values: Values) -> Any:
        """x · x · …"""
        x = values(bound_arguments(node)["self"])
        power = x
        for _ in range(match - 1):
            power = power * x
        return power


class ShiftByFactor(Rule[int]):
    """Replaces a shift of integers by a number: ExecuTorch knows the operator only by another name.

    A shift to the left is a product, one to the right a floor division, of negative numbers too.
    """

    name: ClassVar[str] = "executorch::shift_by_factor"
    pattern = frozenset({
        aten.__lshift__.Scalar, aten.bitwise_left_shift.Tensor_Scalar,
        aten.__rshift__.Scalar, aten.bitwise_right_shift.Tensor_Scalar,
    })  # fmt: skip

    def check(self, node: fx.Node) -> int | No:
        """By less than the bits of the type, its sign aside."""
        by = bound_arguments(node)["other"]
        bits = torch.iinfo(value_of(node).dtype).bits
        return int(by) if isinstance(by, int) and 0 <= by < bits - 1 else No("not by a number of bits that there are")

    def rewrite(self, node: fx.Node, match: int, values: Values) -> Any:
        """Times or divided by a power of two."""
        x = values(bound_arguments(node)["self"])
        if "left" in str(node.target) or "lshift" in str(node.target):
            return x * 2**match
        return torch.div(x, 2**match, rounding_mode="floor")


class DivisionByFloor(Rule[str]):
    """Replaces the rounded division of integers, which ONNX's exporter computes in floats: beyond 2²⁴ digits are lost.

    Before::

        y = div(a, b, rounding_mode="trunc")            y = div(a, b, rounding_mode="floor")

    After::

        y = floor_divide(a − fmod(a, b), b)             y = floor_divide(a, b)
    """

    name: ClassVar[str] = "onnx::division_by_floor"
    pattern = frozenset({aten.div.Tensor_mode, aten.div.Scalar_mode})

    def check(self, node: fx.Node) -> str | No:
        """Rounded, of integers."""
        return _whole(value_of(node)) or str(bound_arguments(node)["rounding_mode"])

    def rewrite(self, node: fx.Node, match: str, values: Values) -> Any:
        """The whole part; where it is rounded towards zero, of what `b` divides without a rest."""
        given = values(bound_arguments(node))
        dtype = value_of(node).dtype
        a, b = (_tensor(given[name], dtype) for name in ("self", "other"))
        return aten.floor_divide.default(a - torch.fmod(a, b) if match == "trunc" else a, b)


def _whole(value: Tensor) -> No | None:
    whole = not value.is_floating_point() and not value.is_complex()
    return None if whole else No("not of integers")


def _tensor(given: Any, dtype: torch.dtype) -> Tensor:
    """An operand in the result's type; a number that it cannot hold wraps around, as in eager."""
    return (given if isinstance(given, Tensor) else torch.full((), given, dtype=torch.int64)).to(dtype)


def _power_of_two(exponent: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.pow(2.0, exponent.to(torch.float32)).to(dtype)


def _shifted_left(x: Tensor, by: Tensor) -> Tensor:
    return x * _power_of_two(by, x.dtype)


def _shifted_right(x: Tensor, by: Tensor) -> Tensor:
    return torch.div(x, _power_of_two(by, x.dtype), rounding_mode="floor")


SHIFTS: Final = WrittenOut(
    "integers::shifts",
    {
        aten.__lshift__.Tensor: _shifted_left,
        aten.bitwise_left_shift.Tensor: _shifted_left,
        aten.__rshift__.Tensor: _shifted_right,
        aten.bitwise_right_shift.Tensor: _shifted_right,
    },
)
"""Shifts by as many bits as a tensor says."""

INTEGERS: Final = (RemainderByFloor(), SumByRunningSum(), PowerByProducts(), ShiftByFactor())
