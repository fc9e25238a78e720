"""Predicts how long a plan takes, by replaying what the loader does with known times of single loads and runs."""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tm_export.runtime.loading.events import Event, EventKind
from tm_export.runtime.loading.policy import BlockKey, Plan, Use, plan_loading


@dataclass(frozen=True)
class Timings:
    """Seconds that each block takes to load, to run and to close, when nothing else goes on."""

    load: Mapping[BlockKey, float]
    run: Mapping[BlockKey, float]
    close: Mapping[BlockKey, float]


def timings_of(events: Iterable[Event]) -> Timings:
    """The medians of what was measured; record them with prefetch depth 0, so that nothing runs beside a load."""
    seconds: dict[EventKind, dict[BlockKey, list[float]]] = {
        kind: defaultdict(list) for kind in ("load", "run", "close")
    }
    for event in events:
        key = BlockKey(event.component, event.block, event.variant)
        seconds[event.kind][key].append((event.end_ns - event.start_ns) / 1e9)
    load, run, close = (
        {key: statistics.median(samples) for key, samples in seconds[kind].items()} for kind in ("load", "run", "close")
    )
    return Timings(load, run, close)


def predicted_seconds(plan: Plan, timings: Timings, *, loads_while_running: bool) -> float:
    """Wall time of a plan, from the first load until the last block is closed.

    One thread loads, in order; one runs and closes. They do not slow each other down, which holds where cores and
    memory bandwidth suffice for both. If the engine does not load while it runs (see `Engine`), a load that waits
    starts when the run ends, and the next run waits for it.
    """
    clock = _TwoThreads(timings) if loads_while_running else _OneAtATime(timings)
    for step in plan.steps:
        for block in step.opens:
            clock.request(block)
        clock.wait_for(step.block)
        for block in step.prefetches:
            clock.request(block)
        clock.run(step.block)
        for block in step.closes:
            clock.close(block)
    return clock.now


def fastest_plan(
    uses: Sequence[Use],
    memory_budget: int | None,
    most_depth: int,
    timings: Timings,
    *,
    loads_while_running: bool,
) -> Plan:
    """The plan that is predicted to be fastest among those with prefetch depth 0 to `most_depth`.

    To prefetch takes room that could keep blocks open: where loads last longer than runs, less of it may be faster.

    Raises:
        BudgetTooSmall: as `plan_loading`.
    """
    plans = [plan_loading(uses, memory_budget, depth) for depth in range(most_depth + 1)]
    return min(plans, key=lambda plan: predicted_seconds(plan, timings, loads_while_running=loads_while_running))


class _TwoThreads:
    """Loads go on beside runs."""

    def __init__(self, timings: Timings) -> None:
        self.now = 0.0
        self._timings = timings
        self._loader_is_free = 0.0
        self._is_open_at: dict[BlockKey, float] = {}

    def request(self, block: BlockKey) -> None:
        self._loader_is_free = max(self._loader_is_free, self.now) + self._timings.load[block]
        self._is_open_at[block] = self._loader_is_free

    def wait_for(self, block: BlockKey) -> None:
        self.now = max(self.now, self._is_open_at[block])

    def run(self, block: BlockKey) -> None:
        self.now += self._timings.run[block]

    def close(self, block: BlockKey) -> None:
        self.now += self._timings.close[block]


class _OneAtATime:
    """A load goes on between runs only."""

    def __init__(self, timings: Timings) -> None:
        self.now = 0.0
        self._timings = timings
        self._requested: deque[BlockKey] = deque()

    def request(self, block: BlockKey) -> None:
        self._requested.append(block)

    def wait_for(self, block: BlockKey) -> None:
        while block in self._requested:
            self._load_next()

    def run(self, block: BlockKey) -> None:
        self.now += self._timings.run[block]
        if self._requested:
            self._load_next()

    def close(self, block: BlockKey) -> None:
        self.now += self._timings.close[block]

    def _load_next(self) -> None:
        self.now += self._timings.load[self._requested.popleft()]
