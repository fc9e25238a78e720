"""Division and bits of integers, which coremltools computes as floats or not at all."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.written_out import WrittenOut, as_tensor

aten = torch.ops.aten

_BITS: Final = 31
"""Bits of a Core ML integer beside its sign."""


def _is_exact(node: fx.Node) -> str:
    """Whether coremltools computes a node in integers, or need not."""
    if value_of(node).is_floating_point() or value_of(node).dtype == torch.bool:
        return "floats or truth values"
    operands = [arg.meta["val"] for arg in node.args if isinstance(arg, fx.Node)]
    is_same = len(operands) == 2 and all(operand.dtype == value_of(node).dtype for operand in operands)
    return "is a quotient of integers" if node.target is aten.floor_divide.default and is_same else ""


def _as_tensors(x: Tensor | int, y: Tensor | int) -> tuple[Tensor, Tensor]:
    """Both operands as tensors of the dtype that PyTorch computes in."""
    dtype = torch.result_type(x, y)
    return as_tensor(x, dtype), as_tensor(y, dtype)


def _floored(x: Tensor, y: Tensor) -> Tensor:
    """x / y rounded down: the operator that becomes Core ML's own."""
    made: Tensor = aten.floor_divide.default(x, y)
    return made


def _truncated(x: Tensor, y: Tensor) -> Tensor:
    """x / y rounded towards zero."""
    return _floored(x.abs(), y.abs()) * (x.sign() * y.sign())


def _divided(x: Tensor | int, y: Tensor | int, rounding_mode: str | None) -> Tensor:
    if rounding_mode is None:
        return torch.true_divide(x, y)
    x, y = _as_tensors(x, y)
    return _floored(x, y) if rounding_mode == "floor" else _truncated(x, y)


def _floor_divided(x: Tensor | int, y: Tensor | int) -> Tensor:
    return _divided(x, y, "floor")


def _remainder(x: Tensor | int, y: Tensor | int) -> Tensor:
    """What is left of x after the floor of x / y: it has the sign of y."""
    x, y = _as_tensors(x, y)
    return x - _floored(x, y) * y


def _fmod(x: Tensor | int, y: Tensor | int) -> Tensor:
    """What is left of x after x / y rounded towards zero: it has the sign of x."""
    x, y = _as_tensors(x, y)
    return x - _truncated(x, y) * y


def _powers() -> Tensor:
    return torch.pow(2, torch.arange(_BITS)).to(torch.int32)


def _bits(x: Tensor) -> Tensor:
    """All bits but the sign of n integers, [n, 31] of 0 and 1: the lowest first, negative ones as two's complement."""
    shifted = _floored(x.reshape(-1, 1), _powers())
    return shifted - _floored(shifted, torch.full((), 2, dtype=shifted.dtype)) * 2


def _bitwise(x: Tensor | int, y: Tensor | int, combine: str) -> Tensor:
    """Bit by bit: Core ML has no operator on bits. The sign counts -2³¹."""
    one, other = _as_tensors(x, y)
    shape = torch.broadcast_shapes(one.shape, other.shape)  # type: ignore[no-untyped-call]
    pair = [each.to(torch.int32).expand(shape).reshape(-1) for each in (one, other)]
    a, b = map(_bits, pair)
    below_zero_a, below_zero_b = (each < 0 for each in pair)
    if combine == "and":
        bits, below_zero = a * b, below_zero_a.logical_and(below_zero_b)
    elif combine == "or":
        bits, below_zero = a + b - a * b, below_zero_a.logical_or(below_zero_b)
    else:
        bits, below_zero = a + b - a * b * 2, below_zero_a.logical_xor(below_zero_b)
    total = (bits * _powers()).sum(-1, dtype=torch.int32)
    signed = torch.where(below_zero, total + torch.full((), -(1 << _BITS), dtype=torch.int32), total)
    return signed.reshape(shape).to(one.dtype)


def _and(x: Tensor | int, y: Tensor | int) -> Tensor:
    return _bitwise(x, y, "and")


def _or(x: Tensor | int, y: Tensor | int) -> Tensor:
    return _bitwise(x, y, "or")


def _xor(x: Tensor | int, y: Tensor | int) -> Tensor:
    return _bitwise(x, y, "xor")


def _not(x: Tensor) -> Tensor:
    return -x - 1


def _power_of_two(shift: Tensor | int) -> Tensor | int:
    """2 to the number of places: read from a table if they are data."""
    if isinstance(shift, int):
        return 1 << shift
    return _powers().index_select(0, shift.reshape(-1)).reshape(shift.shape).to(shift.dtype)


def _shifted_left(x: Tensor | int, shift: Tensor | int) -> Tensor:
    return torch.mul(x, _power_of_two(shift))


def _shifted_right(x: Tensor | int, shift: Tensor | int) -> Tensor:
    return _floor_divided(x, _power_of_two(shift))


INTEGERS: Final = WrittenOut(
    "coreml::integers",
    {
        aten.div.Tensor_mode: _divided,
        aten.div.Scalar_mode: _divided,
        aten.floor_divide.default: _floor_divided,
        aten.floor_divide.Scalar: _floor_divided,
        aten.remainder.Tensor: _remainder,
        aten.remainder.Scalar: _remainder,
        aten.remainder.Scalar_Tensor: _remainder,
        aten.fmod.Tensor: _fmod,
        aten.fmod.Scalar: _fmod,
        **dict.fromkeys((aten.bitwise_and.Tensor, aten.bitwise_and.Scalar, aten.bitwise_and.Scalar_Tensor), _and),
        **dict.fromkeys((aten.bitwise_or.Tensor, aten.bitwise_or.Scalar, aten.bitwise_or.Scalar_Tensor), _or),
        **dict.fromkeys((aten.bitwise_xor.Tensor, aten.bitwise_xor.Scalar, aten.bitwise_xor.Scalar_Tensor), _xor),
        **dict.fromkeys((aten.__and__.Tensor, aten.__and__.Scalar), _and),
        **dict.fromkeys((aten.__or__.Tensor, aten.__or__.Scalar), _or),
        **dict.fromkeys((aten.__xor__.Tensor, aten.__xor__.Scalar), _xor),
        aten.bitwise_not.default: _not,
        **dict.fromkeys((aten.__lshift__.Tensor, aten.__lshift__.Scalar), _shifted_left),
        **dict.fromkeys((aten.__rshift__.Tensor, aten.__rshift__.Scalar), _shifted_right),
        **dict.fromkeys(
            (
                aten.bitwise_left_shift.Tensor,
                aten.bitwise_left_shift.Tensor_Scalar,
                aten.bitwise_left_shift.Scalar_Tensor,
            ),
            _shifted_left,
        ),
        **dict.fromkeys(
            (
                aten.bitwise_right_shift.Tensor,
                aten.bitwise_right_shift.Tensor_Scalar,
                aten.bitwise_right_shift.Scalar_Tensor,
            ),
            _shifted_right,
        ),
    },
    unless=_is_exact,
)
"""Integers stay integers: exact as far as 32 bits go, with the signs that PyTorch gives."""
