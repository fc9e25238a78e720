"""Which operator of a module is the first whose result is no number, or another one in each run."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tm_export.exporters.graph.user_line import source_of_call
from tm_export.exporters.source.evaluation import evaluated


def first_unsteady(module: nn.Module, inputs: Sequence[Tensor], seed: int) -> str:
    """` (operator at file.py:12: code)` of the first operator whose result differs between two runs, or ""."""
    one, other = (_results(module, inputs, seed, _checksum) for _ in range(2))
    return next((_shown(a[0]) for a, b in zip(one, other, strict=False) if a != b), "")


def first_nan(module: nn.Module, inputs: Sequence[Tensor], seed: int) -> str:
    """` (operator at file.py:12: code)` of the first operator whose result holds NaN, or ""."""
    return next((_shown(where) for where, has_nan in _results(module, inputs, seed, _has_nan) if has_nan), "")


def _shown(where: str) -> str:
    return f" (it begins with {where})"


def _results(
    module: nn.Module, inputs: Sequence[Tensor], seed: int, note: Callable[[Sequence[Tensor]], object]
) -> list[tuple[str, object]]:
    """Of each operator, in the order of the calls, what and where it is, and a note of what it gives."""
    mode = _Noting(note)
    with torch.no_grad(), torch.random.fork_rng(devices=()), evaluated(module):
        torch.manual_seed(seed)
        given = [value.detach().clone() for value in inputs]
        with mode:
            module(*given)
    return mode.notes


class _Noting(TorchDispatchMode):  # type: ignore[no-untyped-call]  # its base has an untyped __init_subclass__
    def __init__(self, note: Callable[[Sequence[Tensor]], object]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.notes: list[tuple[str, object]] = []
        self._note = note

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if "empty" not in func.overloadpacket.__name__:  # whatever was in memory, until it is written
            tensors = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]
            self.notes.append((f"{func.overloadpacket.__name__} at {source_of_call()}", self._note(tensors)))
        return result


def _checksum(tensors: Sequence[Tensor]) -> int:
    total = 0
    for tensor in tensors:
        total = zlib.crc32(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(), total)
    return total


def _has_nan(tensors: Sequence[Tensor]) -> bool:
    return any(tensor.is_floating_point() and bool(tensor.isnan().any()) for tensor in tensors)
