"""How a value is held between the operation that gives it and those that read it.

Core ML declares a type for each value. Whether a device rounds to it before every reader it does not say: where two
operations are fused, one of them may see the value as wide as it was computed, and another the rounded one.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

# Types that torch can store but hardly compute with, and the one that holds all their values.
_UNSUPPORTED_BY_TORCH: Final = {torch.uint16: torch.int32, torch.uint32: torch.int64}
_WIDER: Final = {torch.float16: torch.float32, torch.float32: torch.float64}
_NARROWER: Final = {wide: narrow for narrow, wide in _WIDER.items()}


class Readings(Protocol):
    """What is kept of a result, and what each reader sees of it."""

    def held(self, result: Tensor, declared: torch.dtype) -> Tensor:
        """The result of an operation, an input or a constant, as it is kept."""
        ...

    def to_compute_with(self, held: Tensor, reader: str) -> Tensor:
        """What an arithmetic operation sees of a kept value; `reader` names its operand."""
        ...

    def to_move(self, held: Tensor) -> Tensor:
        """What an operation that moves or selects values sees of a kept one."""
        ...


@dataclass(frozen=True)
class Rounded:
    """Every value is rounded to its declared type once, and all readers see the same."""

    def held(self, result: Tensor, declared: torch.dtype) -> Tensor:
        """In the declared type."""
        return result.to(declared)

    def to_compute_with(self, held: Tensor, reader: str) -> Tensor:
        """fp32 in place of fp16."""
        return held.float() if held.dtype == torch.float16 else self.to_move(held)

    def to_move(self, held: Tensor) -> Tensor:
        """As it is, but in a type that torch computes with."""
        return held.to(_UNSUPPORTED_BY_TORCH.get(held.dtype, held.dtype))


@dataclass(frozen=True)
class RoundedByEachReader:
    """Floats are held wider than declared, and each arithmetic operand rounds its own copy, up or down as drawn.

    fp16 is held in fp32, and fp32 in fp64. Two copies of an element are one unit in the last place apart, or equal;
    what the declared type holds exactly is the same for all. The draws follow from `seed` and the operand's name.
    """

    seed: int

    def held(self, result: Tensor, declared: torch.dtype) -> Tensor:
        """In the type that is wider than the declared one."""
        return result.to(_WIDER.get(declared, declared))

    def to_compute_with(self, held: Tensor, reader: str) -> Tensor:
        """A copy with values of the declared type, in the wider one."""
        narrow = _NARROWER.get(held.dtype)
        if narrow is None:
            return self.to_move(held)
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed} {reader}".encode()))
        nearest = held.to(narrow)
        towards = torch.where(held > nearest, torch.inf, -torch.inf).to(narrow)
        other = torch.nextafter(nearest, towards)
        may_differ = (nearest != held) & nearest.isfinite() & other.isfinite()
        drawn = torch.rand(held.shape, generator=generator) < 0.5
        return torch.where(may_differ & drawn, other, nearest).to(held.dtype)

    def to_move(self, held: Tensor) -> Tensor:
        """As it is: what moves is as wide as what was computed."""
        return held.to(_UNSUPPORTED_BY_TORCH.get(held.dtype, held.dtype))


ROUNDED: Final = Rounded()
