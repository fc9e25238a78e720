"""Floats of every width become floats of 32 bits, the only ones that all targets compute with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.utils._pytree as pytree
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram

from tm_export.exporters.capture.normalise.stored import with_stored
from tm_export.exporters.graph.retrace import KEEP, Values, retrace

_WIDENED: Final = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float64: torch.float32,
    torch.complex32: torch.complex64,
    torch.complex128: torch.complex64,
}
_LARGEST: Final = torch.finfo(torch.float32).max


def widened(dtype: torch.dtype) -> torch.dtype:
    """What is computed with in place of a dtype."""
    return _WIDENED.get(dtype, dtype)


@dataclass(frozen=True)
class Widening:
    """What 32 bits cost where a module computes in others: their dtypes, and bytes of its weights before and after."""

    dtypes: tuple[str, ...]
    bytes_before: int
    bytes_after: int


def widening_of(program: ExportedProgram) -> Widening | None:
    """What `widen` will change about a captured program; None if it computes in 32 bits."""
    leaves = [leaf for node in program.graph.nodes for leaf in pytree.tree_leaves(node.meta.get("val"))]
    others = dict.fromkeys(str(leaf.dtype).removeprefix("torch.") for leaf in leaves if _other(leaf))
    if not others:
        return None
    weights = [weight for weight in program.state_dict.values() if isinstance(weight, Tensor)]
    before, after = (
        sum(weight.numel() * dtype_of(weight).itemsize for weight in weights)
        for dtype_of in (lambda weight: weight.dtype, lambda weight: widened(weight.dtype))
    )
    return Widening(tuple(others), before, after)


def widen(program: ExportedProgram) -> ExportedProgram:
    """Return the program with all its floats, weights among them, in 32 bits.

    Casts between floats fall away. A number that only 64 bits can hold becomes the largest that 32 can.
    """
    if not any(_other(leaf) for node in program.graph.nodes for leaf in pytree.tree_leaves(node.meta.get("val"))):
        return program
    return retrace(with_stored(program, _other, _as_32_bits), _translated)


def _other(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in _WIDENED


def _as_32_bits(value: Tensor) -> Tensor:
    plain = value.detach()
    if value.dtype is torch.float64:
        plain = torch.where(plain.isfinite(), plain.clamp(-_LARGEST, _LARGEST), plain)
    made = plain.to(widened(value.dtype))
    return nn.Parameter(made, requires_grad=False) if isinstance(value, nn.Parameter) else made


def _translated(node: fx.Node, values: Values) -> Any:
    if node.op != "call_function" or not isinstance(node.target, OpOverload):
        return KEEP
    given = (node.args, dict(node.kwargs))
    changed = fx.node.map_aggregate(given, _argument)
    if changed == given:
        return KEEP
    args, kwargs = values(changed)
    return node.target(*args, **kwargs)


def _argument(argument: Any) -> Any:
    """A dtype, or a number, as the operator takes it in 32 bits."""
    if isinstance(argument, torch.dtype):
        return widened(argument)
    if isinstance(argument, float) and _LARGEST < abs(argument) < math.inf:
        return math.copysign(_LARGEST, argument)
    return argument
