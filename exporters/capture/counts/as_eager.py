"""Capture a module as eager runs it: what it reads from tensors' values is recorded first, and held true afterwards.

`torch.export` knows no values, and stops where Python needs one: `int(kept.sum())`, `x[mask]`, `if t.any():`. Here the
module runs in eager once, on its example inputs, and every value that Python reads is recorded in order. Then it is
traced; each reading gives what was recorded and leaves a claim in the graph that it is so for every input. `trials`
decides about the claims: a value that follows from constants, weights or a choice of k is as recorded, one that
follows from data is not.

A selection whose line has a capacity is not recorded: it chooses as many as there is room for, and its positions are
marked with how many of them are in use.

Random draws are recorded as well, and are constants of the trace. The module is told that nothing is being exported:
libraries otherwise do something else than in eager (transformers builds masks that it would leave out).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from tm_export.exporters.capture.capacity.places import IN_USE
from tm_export.exporters.capture.counts.claims import claim
from tm_export.exporters.capture.counts.positions import Chosen, positions
from tm_export.exporters.capture.counts.readings import DRAWS, READINGS, first_number
from tm_export.exporters.errors import UsageError
from tm_export.exporters.graph.user_line import line_of, source_of_call


class Notes(Protocol):
    """What is known of a module's values while it runs."""

    def value(self, of: Tensor, what: str) -> Any:
        """The elements of a tensor, as `tolist` gives them; `what` names the reading in a refusal."""

    def drawn(self, draw: Callable[[], Tensor]) -> Tensor:
        """What a random operator draws."""

    def in_use(self, positions: Tensor, count: Tensor) -> Tensor:
        """The positions of a selection with a capacity, the first `count` of which are in use."""


class Recorded:
    """Notes taken while the module runs in eager."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def value(self, of: Tensor, what: str) -> Any:
        """Read the elements and record them."""
        self.values.append(of.tolist())
        return self.values[-1]

    def drawn(self, draw: Callable[[], Tensor]) -> Tensor:
        """Draw and record."""
        result = draw()
        self.values.append(result.detach().clone())
        return result

    def in_use(self, positions: Tensor, count: Tensor) -> Tensor:
        """Those positions; raises `UsageError` if there are too few for what is chosen."""
        if int(count) > positions.shape[-1]:
            raise UsageError(
                f"{source_of_call()} chooses {int(count)} tokens of the example inputs, and its capacity is "
                f"{positions.shape[-1]}: give it more"
            )
        return positions


class Replayed:
    """The same notes while the module is traced: each value that is read leaves a claim."""

    def __init__(self, values: list[Any]) -> None:
        self._values = iter(values)

    def value(self, of: Tensor, what: str) -> Any:
        """What was recorded, claimed to be so for every input."""
        recorded = next(self._values)
        expected = torch.tensor(recorded, dtype=of.dtype)
        claim((of == expected).all(), source_of_call(), what)
        return recorded

    def drawn(self, draw: Callable[[], Tensor]) -> Tensor:
        """What was drawn, as a constant of the trace."""
        constant: Tensor = torch.ops.aten.clone.default(next(self._values))
        return constant

    def in_use(self, positions: Tensor, count: Tensor) -> Tensor:
        """The positions, marked."""
        marked: Tensor = IN_USE(positions, count)
        return marked


class AsEager(TorchFunctionMode):
    """Runs a module with `notes` for every value that Python reads, and `capacities` by line.

    `selecting` are the lines that were found to select by a mask.
    """

    def __init__(self, notes: Notes, seed: int, capacities: Mapping[str, int]) -> None:
        super().__init__()
        self._notes, self._seed, self._capacities = notes, seed, capacities
        self.selecting: set[str] = set()
        self._generators: dict[torch.Generator, torch.Generator] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one function of the user's code."""
        kwargs = kwargs or {}
        if func in DRAWS:
            seeded = tree_map_only(torch.Generator, self._seeded, kwargs)
            return self._notes.drawn(lambda: func(*args, **seeded))
        first = first_number(func)
        if first is not None:
            args, kwargs = args[:first] + self._numbers(args[first:]), self._numbers(kwargs)
        reading = READINGS.get(func)
        return func(*args, **kwargs) if reading is None else reading(self, func, args, kwargs)

    def value(self, of: Tensor, what: str) -> Any:
        """The elements of a tensor, as `tolist` gives them."""
        return self._notes.value(of, what)

    def chosen(self, mask: Tensor, what: str) -> Chosen:
        """The positions that a mask chooses: by row if every row has as many."""
        line = line_of(source_of_call())
        self.selecting.add(line)
        if line in self._capacities:
            return self._chosen_in_room(mask, self._capacities[line])
        size = mask.shape[-1]
        by_row = mask.reshape(-1, size)
        counts = self._recorded_counts(by_row, what)
        shape = tuple(mask.shape)
        if len(set(counts)) == 1:
            return Chosen(positions(by_row, counts[0]), shape)
        return Chosen(positions(mask.reshape(1, -1), sum(counts)), shape)

    def _chosen_in_room(self, mask: Tensor, capacity: int) -> Chosen:
        flat = mask.reshape(1, -1)
        first = positions(flat, min(capacity, flat.shape[1]))
        return Chosen(self._notes.in_use(first, flat.sum()), tuple(mask.shape))

    def _recorded_counts(self, mask_RN: Tensor, what: str) -> list[int]:
        counts: list[int] = self.value(mask_RN.sum(1), what)
        return counts

    def _numbers(self, given: Any) -> Any:
        """The arguments with numbers in place of tensors that hold a single integer."""
        return tree_map_only(
            Tensor,
            lambda t: self.value(t, "a size that is a tensor") if t.dim() == 0 and not t.is_floating_point() else t,
            given,
        )

    def _seeded(self, generator: torch.Generator) -> torch.Generator:
        if generator not in self._generators:
            self._generators[generator] = torch.Generator().manual_seed(self._seed)
        return self._generators[generator]


@dataclass(frozen=True)
class Recording:
    """What Python read and what was drawn, in order, and the lines (`file.py:18`) that select by a mask."""

    values: list[Any]
    selecting: frozenset[str]


def record(
    module: nn.Module, example_inputs: tuple[Tensor, ...], seed: int, capacities: Mapping[str, int]
) -> Recording:
    """Run the module in eager; lines with a capacity choose as many as there is room for.

    Raises `UsageError` if a line chooses more than its capacity, and whatever the module raises.
    """
    notes = Recorded()
    mode = AsEager(notes, seed, capacities)
    with torch.random.fork_rng(devices=()), torch.no_grad(), mode:
        torch.manual_seed(seed)
        module(*example_inputs)
    return Recording(notes.values, frozenset(mode.selecting))


def replay(module: nn.Module, values: list[Any], seed: int, capacities: Mapping[str, int]) -> None:
    """Have the module's forward run on recorded values from now on: its attribute `forward` is another one."""
    forward = module.forward

    @functools.wraps(forward)
    def replayed(*args: Any, **kwargs: Any) -> Any:
        with _one_reading_for_a_list(), _nothing_is_exported(), AsEager(Replayed(values), seed, capacities):
            return forward(*args, **kwargs)

    module.forward = replayed


@contextmanager
def _one_reading_for_a_list() -> Iterator[None]:
    """Have `tolist` be one function: the tensors of a trace spell it an element at a time."""
    with ExitStack() as patched:
        for traced in (FunctionalTensor, FakeTensor):
            patched.enter_context(mock.patch.object(traced, "tolist", Tensor.tolist))
        yield


_FLAGS: Final = ("_is_compiling_flag", "_is_exporting_flag")


@contextmanager
def _nothing_is_exported() -> Iterator[None]:
    """Have `torch.compiler.is_exporting()` and its kin say no."""
    saved = {flag: getattr(torch.compiler, flag) for flag in _FLAGS}
    try:
        for flag in _FLAGS:
            setattr(torch.compiler, flag, False)
        yield
    finally:
        for flag, value in saved.items():
            setattr(torch.compiler, flag, value)
