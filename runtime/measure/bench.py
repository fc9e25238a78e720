"""Measures one variant of one component in this process: runs under a memory budget, then warm and cold loads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from tm_export.runtime.engines import Engine, choose_engine
from tm_export.runtime.engines.base import Array
from tm_export.runtime.heap import give_back_free_memory
from tm_export.runtime.loading.events import Event, EventKind
from tm_export.runtime.loading.loader import Loader
from tm_export.runtime.loading.machinery import Machinery
from tm_export.runtime.loading.memory import MemorySampler
from tm_export.runtime.loading.page_in import page_in
from tm_export.runtime.loading.process_budget import loader_within_budget
from tm_export.runtime.manifest import Block, Manifest, Variant
from tm_export.runtime.measure.inputs import inputs_for
from tm_export.runtime.measure.latency_report import EngineInfo
from tm_export.runtime.measure.machine import OtherLoad, storage_bytes_read
from tm_export.runtime.measure.options import BenchOptions
from tm_export.runtime.measure.page_cache import drop_page_cache
from tm_export.runtime.measure.recording import Phase, PhaseKind, Recording
from tm_export.runtime.measure.report_terms import PageCache
from tm_export.runtime.measure.threads import threads_used


def record_variant(
    bundle_dir: Path, manifest: Manifest, component: str, variant: str, options: BenchOptions
) -> Recording:
    """Runs and loads one variant of a component again and again, and writes down what happened when.

    Runs come first, so that the peak of memory is theirs. Loads then open each block, in the order of its first call,
    and close it before the next, so that they need no more memory than a run. The engine's library has been started by
    the runs: no load pays for that.

    Raises:
        BundleError: no such component or variant, or golden inputs that cannot be read.
        EngineError: the engine refuses a block or fails.
        BudgetTooSmall: a block cannot run within the memory budget.
    """
    new_engine = partial(choose_engine, manifest.target, options.engine, options.threads)
    engine = new_engine()
    inputs = inputs_for(bundle_dir, manifest, component, variant)
    blocks = _blocks(manifest, component, variant)
    files = tuple(dict.fromkeys(bundle_dir / path for block, _ in blocks for path in block.files))
    loads = _Loads(bundle_dir, manifest, component, new_engine, blocks)
    machinery = Machinery(bundle_dir, manifest, engine, options.memory_budget, options.prefetch_depth)
    with MemorySampler() as sampler:
        with loader_within_budget(machinery) as loader:
            # One run more than there are: a schedule's last run also closes every block, which no other run does.
            loader.schedule([(component, variant)] * (options.warmup + options.runs + 1))
            others = OtherLoad()
            runs = tuple(_run(loader, component, variant, inputs.arrays, options))
            other_load_cores = others.cores()
        peak_rss_bytes = sampler.peak_rss_bytes()
        for number in range(1, options.loads + 1):
            loads.once("warm_load", number)
        page_cache, bytes_read = _load_cold(loads, files, options.loads)
    return Recording(
        component=component,
        variant=variant,
        process_id=os.getpid(),
        engine=EngineInfo(name=engine.name, version=engine.version, threads=threads_used(engine, options.threads)),
        phases=(*runs, *loads.phases),
        events=(*loader.events, *loads.events),
        memory=sampler.samples,
        baseline_rss_bytes=sampler.samples[0].rss_bytes,
        peak_rss_bytes=peak_rss_bytes,
        page_cache=page_cache,
        bytes_opened=sum(path.stat().st_size for path in files),
        bytes_read=bytes_read,
        other_load_cores=other_load_cores,
        inputs=inputs.source,
    )


def _blocks(manifest: Manifest, component: str, variant: str) -> tuple[tuple[Block, Variant], ...]:
    """The blocks that a component's variant calls, each once, in the order of their first calls."""
    found = manifest.component(component)
    names = dict.fromkeys(call.block for call in found.variant(variant).calls)
    return tuple((found.block(name), manifest.variant(component, name, variant)) for name in names)


def _run(
    loader: Loader, component: str, variant: str, inputs: Mapping[str, Array], options: BenchOptions
) -> Iterator[Phase]:
    counts: tuple[tuple[PhaseKind, int], ...] = (("warm_up", options.warmup), ("run", options.runs))
    for kind, count in counts:
        for number in range(1, count + 1):
            start_ns = time.perf_counter_ns()
            loader.run(component, variant, inputs)
            yield Phase(kind, number, start_ns, time.perf_counter_ns())


class _Loads:
    """Loads of all blocks, one after another, written down as phases and events.

    A load does what the loader's does: the block's files are read, then the engine opens them. It is a new engine each
    time, which has kept nothing of earlier loads.
    """

    def __init__(
        self,
        bundle_dir: Path,
        manifest: Manifest,
        component: str,
        new_engine: Callable[[], Engine],
        blocks: Sequence[tuple[Block, Variant]],
    ) -> None:
        self._bundle_dir = bundle_dir
        self._file_bytes = {entry.path: entry.bytes for entry in manifest.files}
        self._component = component
        self._new_engine = new_engine
        self._blocks = blocks
        self.phases: list[Phase] = []
        self.events: list[Event] = []

    def once(self, kind: PhaseKind, number: int) -> None:
        """Open and close every block."""
        engine = self._new_engine()
        start_ns = time.perf_counter_ns()
        for block, function in self._blocks:
            began_ns = time.perf_counter_ns()
            page_in(self._bundle_dir, [(path, self._file_bytes[path]) for path in block.files])
            session = engine.open(self._bundle_dir / function.artifact, function)
            opened_ns = time.perf_counter_ns()
            session.close()
            del session
            give_back_free_memory()
            self._note("load", block, function, began_ns, opened_ns)
            self._note("close", block, function, opened_ns, time.perf_counter_ns())
        self.phases.append(Phase(kind, number, start_ns, time.perf_counter_ns()))

    def _note(self, kind: EventKind, block: Block, function: Variant, start_ns: int, end_ns: int) -> None:
        thread = threading.current_thread().name
        self.events.append(
            Event(kind, self._component, block.name, function.name, start_ns, end_ns, thread, block.weight_bytes)
        )


def _load_cold(loads: _Loads, files: Sequence[Path], times: int) -> tuple[PageCache, int | None]:
    """Loads after the files have been dropped from the page cache; what cannot be dropped is not called cold.

    Returns:
        Whether the files were dropped every time, and what the first load read from storage.
    """
    states: list[PageCache] = []
    bytes_read: int | None = None
    for number in range(1, times + 1):
        states.append(drop_page_cache(files))
        before = storage_bytes_read()
        loads.once("cold_load" if states[-1] == "dropped" else "load", number)
        after = storage_bytes_read()
        if number == 1 and states[-1] == "dropped" and before is not None and after is not None:
            bytes_read = after - before
    return next((state for state in states if state != "dropped"), "dropped" if states else "unknown"), bytes_read
