"""Calls of an operator with drawn arguments.

A call is a line of Python over the inputs `a`, `b` and `c`, so that one that fails can be read. It is run as its user
would write it; which ATen operators that comes to is looked up where PyTorch dispatches them.
"""

from __future__ import annotations

import linecache
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SCOPE: Final = {"torch": torch, "F": F, "math": math, "aten": torch.ops.aten}
FILE: Final = "operators.py"
"""The file that messages name a line of."""

NOT_RUN: Final = (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError)


@dataclass(frozen=True)
class Draw:
    """What an input is drawn from: evenly between two bounds. Those that are `distinct` hold no number twice."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    low: float
    high: float
    distinct: bool = False

    def __call__(self, generator: torch.Generator) -> Tensor:
        """A tensor of this shape and dtype."""
        count = math.prod(self.shape)
        if self.distinct:
            places = torch.randperm(count, generator=generator).double().reshape(self.shape)
            return (self.low + places * (self.high - self.low) / max(count, 1)).to(self.dtype)
        if self.dtype.is_floating_point:
            drawn = torch.rand(self.shape, generator=generator, dtype=torch.float64)
            return (self.low + (self.high - self.low) * drawn).to(self.dtype)
        return torch.randint(int(self.low), int(self.high) + 1, self.shape, generator=generator).to(self.dtype)


def floats(*shape: int, low: float = -2.0, high: float = 2.0) -> Draw:
    """Numbers of 32 bits."""
    return Draw(shape, torch.float32, low, high)


def whole(*shape: int, low: int = -5, high: int = 5, dtype: torch.dtype = torch.int64) -> Draw:
    """Integers, both bounds among them."""
    return Draw(shape, dtype, low, high)


def truths(*shape: int) -> Draw:
    """Truth values."""
    return Draw(shape, torch.bool, 0, 1)


def apart(*shape: int, dtype: torch.dtype = torch.float32) -> Draw:
    """Numbers of which no two are equal, for operators that put them in order."""
    count = math.prod(shape)
    return Draw(shape, dtype, -count // 2, count - count // 2, distinct=True)


@dataclass(frozen=True)
class Call:
    """A line of Python, and what each of its inputs is drawn from, by name."""

    text: str
    inputs: tuple[tuple[str, Draw], ...]

    def __str__(self) -> str:
        given = ", ".join(f"{name}: {_short(draw)}" for name, draw in self.inputs)
        return f"{self.text}  [{given}]"

    def draw(self, seed: int) -> tuple[Tensor, ...]:
        """Inputs in the order of their names."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(draw(generator) for _, draw in self.inputs)


def call(text: str, **inputs: Draw) -> Call:
    """A call over these inputs."""
    return Call(text, tuple(inputs.items()))


def that_run(calls: Iterable[Call]) -> tuple[Call, ...]:
    """Those that PyTorch itself runs: not every operator takes every dtype."""
    return tuple(each for each in calls if _runs(each))


def module_of(calls: tuple[Call, ...]) -> nn.Module:
    """A module whose forward makes all these calls, each on inputs of its own, and returns all that they return."""
    names = [f"{name}{i}" for i, each in enumerate(calls) for name, _ in each.inputs]
    lines = [f"def forward(self, {', '.join(names)}):"]
    for i, each in enumerate(calls):
        given = ", ".join(f"{name}{i}" for name, _ in each.inputs)
        own = ", ".join(_names(each))
        lines += [f"    def call_{i}({own}):", f"        return {each.text}", f"    y{i} = call_{i}({given})"]
    lines.append(f"    return {', '.join(f'y{i}' for i in range(len(calls)))},")
    text = "\n".join(lines)
    scope: dict[str, Any] = dict(SCOPE)
    linecache.cache[FILE] = (len(text), None, text.splitlines(keepends=True), FILE)
    exec(compile(text, FILE, "exec"), scope)
    made: nn.Module = type("Operators", (nn.Module,), {"forward": scope["forward"]})()
    return made


def expected_of(calls: tuple[Call, ...], seed: int) -> tuple[Tensor, ...]:
    """What PyTorch makes of them, in one flat tuple."""
    return tuple(result for each in calls for result in _results(each, seed))


def operators_of(each: Call) -> frozenset[str]:
    """The ATen operators that PyTorch calls for it, such as `aten.amax.default`."""
    given = dict(zip(_names(each), each.draw(seed=0), strict=True))
    with torch.no_grad(), _Noted() as noted:
        eval(each.text, {**SCOPE, **given})
    return frozenset(noted.names)


def _results(each: Call, seed: int) -> tuple[Tensor, ...]:
    given = dict(zip(_names(each), each.draw(seed), strict=True))
    with torch.no_grad():
        returned = eval(each.text, {**SCOPE, **given})
    return tuple(leaf for leaf in tree_leaves(returned) if isinstance(leaf, Tensor))


def _names(each: Call) -> tuple[str, ...]:
    return tuple(name for name, _ in each.inputs)


def _runs(each: Call) -> bool:
    try:
        return all(result.dtype is not torch.complex64 for result in _results(each, seed=0))
    except NOT_RUN:
        return False


def _short(draw: Draw) -> str:
    return f"{str(draw.dtype).removeprefix('torch.')}{list(draw.shape)} in {draw.low:g} … {draw.high:g}"


class _Noted(TorchDispatchMode):  # type: ignore[no-untyped-call]  # its base has an untyped __init_subclass__
    """Notes which operators are called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def merged(*families: Mapping[str, tuple[Call, ...]]) -> Iterator[tuple[str, tuple[Call, ...]]]:
    """All operators of several tables, each once."""
    seen: set[str] = set()
    for family in families:
        for name, calls in family.items():
            assert name not in seen, f"{name} stands in two tables"
            seen.add(name)
            yield name, calls
