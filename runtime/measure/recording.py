"""What one variant of a component did while it was measured: the raw material of reports, traces and pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tm_export.runtime.loading.events import Event
from tm_export.runtime.loading.memory import MemorySample
from tm_export.runtime.measure.latency_report import EngineInfo
from tm_export.runtime.measure.report_terms import PageCache

PhaseKind = Literal["warm_up", "run", "warm_load", "cold_load", "load"]


@dataclass(frozen=True)
class Phase:
    """One run end to end, or one load of all blocks; times are `time.perf_counter_ns`.

    Attributes:
        kind: warm_up and run are runs, measured only as the latter; the others are loads, named as in `Series`.
        number: counts the phases of one kind from 1.
        start_ns: when it began.
        end_ns: when it ended.
    """

    kind: PhaseKind
    number: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class Recording:
    """One variant of one component, measured in a process of its own.

    Attributes:
        component: the component.
        variant: its variant.
        process_id: of the process that did it.
        engine: what executed the blocks.
        phases: runs and loads in the order of time; none overlaps another.
        events: what happened to single blocks, in those phases and between them.
        memory: samples in the order of time.
        baseline_rss_bytes: resident set before the first block was opened.
        peak_rss_bytes: largest resident set from then to the last run.
        page_cache: whether the files were dropped from the OS's page cache before every cold load.
        bytes_opened: size of the files behind one load of all blocks.
        bytes_read: what the OS read from storage during the first cold load of all blocks; None where it does not say.
        other_load_cores: cores that other processes kept busy during the runs; None where that is not known.
        inputs: golden tensors of the bundle, or generated ones.
    """

    component: str
    variant: str
    process_id: int
    engine: EngineInfo
    phases: tuple[Phase, ...]
    events: tuple[Event, ...]
    memory: tuple[MemorySample, ...]
    baseline_rss_bytes: int
    peak_rss_bytes: int
    page_cache: PageCache
    bytes_opened: int
    bytes_read: int | None
    other_load_cores: float | None
    inputs: Literal["golden", "generated"]
