"""Run the user's own module, as PyTorch runs it, noting what it decides, or with decisions forced upon it.

This is the reference that everything is held against: no rule, pass or converter of ours has a part in it. Decisions
are read, and exchanged, where PyTorch calls the operators that decide, whatever code calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tm_export.exporters.graph.user_line import source_of_call
from tm_export.exporters.source.evaluation import evaluated

aten = torch.ops.aten

_ORDERS: Final = (aten.topk.default, aten.sort.default, aten.sort.stable)
_EXTREMES: Final = (aten.max.dim, aten.min.dim)
_POSITIONS: Final = (aten.argmax.default, aten.argmin.default)


Stored = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True)
class Call:
    """One call that decides: the scores that it saw, [R, N], a row for each choice or order, and its indices [R, K].

    One that `is_stable` says which of equal scores comes first.
    """

    scores_RN: Tensor
    index_RK: Tensor
    is_stable: bool


@dataclass(frozen=True)
class EagerRun:
    """What a run computed: its outputs, a flat tuple; what it decided, in the order of the calls; what it drew.

    `draws` are the places where random numbers were drawn, as `operator at file.py:12: code`.
    """

    outputs: tuple[Tensor, ...]
    calls: tuple[Call, ...]
    draws: tuple[str, ...]


def run_eager(
    module: nn.Module,
    inputs: Sequence[Tensor],
    seed: int,
    forced: Mapping[int, Tensor] | None = None,
    stored: Stored | None = None,
) -> EagerRun:
    """Run the module once on copies of the inputs, in evaluation mode; it is left as it was.

    Args:
        module: what the user gave; it may return tensors in any nesting.
        inputs: its inputs by position.
        seed: of random numbers, which an export draws from it, too.
        forced: indices [R, K] in place of what the calls of these numbers decide.
        stored: from a weight and its key to the weight as an artifact holds it, where that is not the same.

    Raises whatever the module raises.
    """
    given = [value.detach().clone() for value in inputs]
    with evaluated(module), _with_weights(module, stored):
        return run_watched(lambda: module(*given), seed, forced)


def run_watched(call: Callable[[], Any], seed: int, forced: Mapping[int, Tensor] | None = None) -> EagerRun:
    """Call what computes with PyTorch, noting what it decides and draws; see `run_eager`."""
    mode = _Watched(seed, forced or {})
    with torch.no_grad(), torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        with mode:
            returned = call()
    outputs = tuple(leaf.detach().clone() for leaf in pytree.tree_leaves(returned) if isinstance(leaf, Tensor))
    return EagerRun(outputs, tuple(mode.calls), tuple(dict.fromkeys(mode.draws)))


@contextmanager
def _with_weights(module: nn.Module, stored: Stored | None) -> Iterator[None]:
    """Let the module compute with its weights as they are stored."""
    if stored is None:
        yield
        return
    held = [(weight, weight.data) for weight in (*module.parameters(), *module.buffers())]
    try:
        for key, weight in (*module.named_parameters(), *module.named_buffers()):
            weight.data = stored(key, weight.data)
        yield
    finally:
        for weight, value in held:
            weight.data = value


class _Watched(TorchDispatchMode):  # type: ignore[no-untyped-call]  # its base has an untyped __init_subclass__
    """Notes calls that decide and calls that draw, exchanges decisions, and draws as an export does."""

    def __init__(self, seed: int, forced: Mapping[int, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.draws: list[str] = []
        self._seed, self._forced = seed, forced
        self._generators: dict[torch.Generator, torch.Generator] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # Attention has the tag for its dropout, which none here has: export would show it as an operator of its own.
        if torch.Tag.nondeterministic_seeded in func.tags and "attention" not in func.overloadpacket.__name__:
            self.draws.append(f"{func.overloadpacket.__name__} at {source_of_call()}")
            args, kwargs = pytree.tree_map_only(torch.Generator, self._own_generator, (args, kwargs))
        result = func(*args, **kwargs)
        if func in _ORDERS:
            return self._ordered(func, args, kwargs, result)
        if func in _EXTREMES:
            return self._chosen(args[0], args[1], result)
        if func in _POSITIONS and (dim := _argument(func, args, kwargs, "dim")) is not None:
            index = result.reshape(_kept(args[0].shape, dim))
            forced = self._exchanged(args[0], dim, index, is_stable=True)
            return result if forced is None else forced.reshape(result.shape)
        return result

    def _own_generator(self, given: torch.Generator) -> torch.Generator:
        """Each generator of the module's begins at the seed, as it does in an export."""
        return self._generators.setdefault(given, torch.Generator().manual_seed(self._seed))

    def _ordered(self, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
        scores, dim = args[0], _argument(func, args, kwargs, "dim")
        if not scores.dim():
            return result
        is_stable = bool(_argument(func, args, kwargs, "stable"))
        index = self._exchanged(scores, dim, result[1], is_stable=is_stable)
        return result if index is None else type(result)((scores.gather(dim, index), index))

    def _chosen(self, scores: Tensor, dim: int, result: Any) -> Any:
        if not scores.dim():
            return result
        index = self._exchanged(scores, dim, result[1].reshape(_kept(scores.shape, dim)), is_stable=True)
        if index is None:
            return result
        return type(result)((scores.gather(dim, index).reshape(result[0].shape), index.reshape(result[1].shape)))

    def _exchanged(self, scores: Tensor, dim: int, index: Tensor, *, is_stable: bool) -> Tensor | None:
        """Note a decision; the index in its place, in the same shape, if there is one."""
        number = len(self.calls)
        last = index.movedim(dim, -1)
        rows = scores.movedim(dim, -1).reshape(-1, scores.shape[dim]).clone()
        self.calls.append(Call(rows, last.reshape(-1, last.shape[-1]).clone(), is_stable))
        forced = self._forced.get(number)
        return None if forced is None else forced.reshape(last.shape).movedim(-1, dim)


def _kept(shape: torch.Size, dim: int) -> list[int]:
    """The shape with size 1 in this dimension."""
    return [1 if d == dim % len(shape) else size for d, size in enumerate(shape)]


def _argument(func: Any, args: Any, kwargs: Any, name: str) -> Any:
    for position, argument in enumerate(func._schema.arguments):
        if argument.name == name:
            if position < len(args):
                return args[position]
            return kwargs.get(name, argument.default_value)
    return None
