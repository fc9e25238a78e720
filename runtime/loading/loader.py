"""Runs components block by block inside a memory budget: one thread loads ahead while the caller's runs."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from tm_export.runtime.engines.base import Array, Engine, EngineError, Session, require_fit
from tm_export.runtime.heap import give_back_free_memory
from tm_export.runtime.loading.events import Event, EventKind
from tm_export.runtime.loading.page_in import page_in
from tm_export.runtime.loading.policy import BlockKey, Plan, Step, plan_loading
from tm_export.runtime.loading.uses import last_reads, uses_of
from tm_export.runtime.manifest import Call, Component, Manifest


class Loader:
    """Opens, prefetches, runs and closes the blocks of a bundle. Use it as a context manager, from one thread.

    State the coming runs with `schedule`: the plan then crosses from one run to the next, and blocks that will be
    needed again stay open if there is room. A run that nobody announced is a schedule of its own, and closes all its
    blocks at its end.

    The bundle's files are taken to be whole (`manifest.verify_files`); that their sizes still hold is checked at each
    load. If a load or a run fails, the error is raised in the caller's thread, at the call that needs the block, and
    everything is closed: no block is ever skipped.

    Args:
        bundle_dir: The bundle's folder.
        manifest: Its manifest.
        engine: What opens and runs blocks.
        memory_budget: Bytes for open blocks, the intermediate tensors of the one that runs, and the values that wait
            for later blocks, as the engine reckons them (`Engine.footprint`); None for no bound.
        prefetch_depth: How many calls ahead blocks are loaded, where there is room.
        tell: Called with each event as it ends, in the thread that made it.
    """

    def __init__(
        self,
        bundle_dir: Path,
        manifest: Manifest,
        engine: Engine,
        *,
        memory_budget: int | None = None,
        prefetch_depth: int = 1,
        tell: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self._tell = tell
        self._bundle_dir = bundle_dir
        self._manifest = manifest
        self._engine = engine
        self._memory_budget = memory_budget
        self._prefetch_depth = prefetch_depth
        self._file_bytes = {entry.path: entry.bytes for entry in manifest.files}
        self._runs: deque[tuple[str, str]] = deque()
        self._plan = Plan(())
        self._steps: deque[Step] = deque()
        self._open_bytes: dict[BlockKey, int] = {}
        self._sessions: dict[BlockKey, Future[Session]] = {}
        self._background = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        self._events: list[Event] = []
        self._is_closed = False

    @property
    def events(self) -> tuple[Event, ...]:
        """What was loaded, run and closed so far, in the order in which it ended."""
        return tuple(self._events)

    @property
    def plan(self) -> Plan:
        """The plan of the last schedule."""
        return self._plan

    def schedule(self, runs: Sequence[tuple[str, str]]) -> None:
        """States the (component, variant) of the coming runs, in order; what was stated before no longer holds.

        Loading begins with the first of these runs.

        Raises:
            BundleError: no such component or variant.
            BudgetTooSmall: some block cannot run within the memory budget.
        """
        self._require_open()
        uses = uses_of(self._manifest, self._engine, runs)
        plan = plan_loading(uses, self._memory_budget, self._prefetch_depth)
        self._close_blocks()
        self._plan, self._steps, self._runs = plan, deque(plan.steps), deque(runs)
        self._open_bytes = {use.block: use.footprint.open_bytes for use in uses}

    def run(self, component: str, variant: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs one variant of a component, from its inputs to its outputs, by their names.

        Raises:
            BundleError: no such component or variant.
            BudgetTooSmall: it was not scheduled, and some block cannot run within the memory budget.
            EngineError: another run is scheduled next, an input does not fit (nothing has changed after these two), or
                a block cannot be loaded or run (everything has been closed after this).
        """
        self._require_open()
        chosen = self._manifest.component(component).variant(variant)
        require_fit("input", f"component {component!r} ({variant})", chosen.inputs, inputs)
        if not self._runs:
            self.schedule([(component, variant)])
        if self._runs[0] != (component, variant):
            raise EngineError(
                f"{component!r} ({variant}) is not the run that is scheduled next, {self._runs[0][0]!r} "
                f"({self._runs[0][1]}) is: run that one, or state another schedule"
            )
        self._runs.popleft()
        try:
            return self._run_calls(self._manifest.component(component), variant, inputs)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes every block and ends the loading thread; a second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._close_blocks()
            self._background.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require_open(self) -> None:
        if self._is_closed:
            raise EngineError("the loader is closed (by its owner, or after an error): make another one")

    def _run_calls(self, component: Component, variant: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        chosen = component.variant(variant)
        last = last_reads(chosen)
        values = dict(inputs)
        for index, call in enumerate(chosen.calls):
            values |= self._run_step(self._steps.popleft(), component, call, values)
            for value in (*call.reads, *call.writes):
                if last[value] <= index:
                    values.pop(value, None)
        return {spec.name: values[spec.name] for spec in chosen.outputs}

    def _run_step(self, step: Step, component: Component, call: Call, values: Mapping[str, Array]) -> dict[str, Array]:
        assert (step.block.component, step.block.block) == (component.name, call.block)
        for block in step.opens:
            self._request(block)
        session = self._sessions[step.block].result()
        for block in step.prefetches:
            self._request(block)
        specs = session.variant
        inputs = {spec.name: values[value] for spec, value in zip(specs.inputs, call.reads, strict=True)}
        start = time.perf_counter_ns()
        outputs = session.run(inputs)
        self._record("run", step.block, start, self._open_bytes[step.block] + specs.activation_bytes)
        for block in step.closes:
            self._close_block(block)
        return {value: outputs[spec.name] for spec, value in zip(specs.outputs, call.writes, strict=True)}

    def _request(self, block: BlockKey) -> None:
        assert block not in self._sessions
        self._sessions[block] = self._background.submit(self._load, block)

    def _load(self, key: BlockKey) -> Session:
        start = time.perf_counter_ns()
        block = self._manifest.component(key.component).block(key.block)
        variant = self._manifest.variant(key.component, key.block, key.variant)
        try:
            page_in(self._bundle_dir, [(path, self._file_bytes[path]) for path in block.files])
            session = self._engine.open(self._bundle_dir / variant.artifact, variant)
        except Exception as error:  # whatever an engine raises belongs to this block
            raise EngineError(f"{key} cannot be loaded from {variant.artifact}: {error}") from error
        self._record("load", key, start, self._open_bytes[key])
        return session

    def _close_block(self, block: BlockKey) -> None:
        session = self._sessions.pop(block)
        if session.cancel() or session.exception() is not None:  # waits if it is being loaded
            return
        start = time.perf_counter_ns()
        session.result().close()
        del session
        give_back_free_memory()
        self._record("close", block, start, self._open_bytes[block])

    def _close_blocks(self) -> None:
        # Those that wait for their load first: none of them is loaded in vain while another is waited for.
        for block in reversed(tuple(self._sessions)):
            self._close_block(block)

    def _record(self, kind: EventKind, key: BlockKey, start: int, held: int) -> None:
        thread = threading.current_thread().name
        event = Event(kind, key.component, key.block, key.variant, start, time.perf_counter_ns(), thread, held)
        self._events.append(event)
        self._tell(event)
