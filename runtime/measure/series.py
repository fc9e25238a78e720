"""From a recording to the series of its report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tm_export.runtime.loading.events import Event
from tm_export.runtime.measure.latency_report import Quantity, ResourceUse, Series
from tm_export.runtime.measure.recording import Phase, PhaseKind, Recording

_LOADS: tuple[tuple[PhaseKind, Quantity], ...] = (
    ("cold_load", "cold_load"),
    ("warm_load", "warm_load"),
    ("load", "load"),
)


def series_of(recording: Recording) -> tuple[Series, ...]:
    """The series of one variant: loads and runs, end to end and of each block; warm-up runs are left out.

    A run end to end lasts as long as its phase: waiting for a block is part of it. A load end to end is the sum of its
    blocks' loads, since each is closed again before the next is opened.
    """
    found: list[Series] = []
    for kind, quantity in _LOADS:
        passes = [
            [event for event in recording.events if event.kind == "load" and _within(event, phase)]
            for phase in _phases(recording, kind)
        ]
        found += _end_to_end(recording, quantity, [sum(map(_milliseconds, events)) for events in passes])
        found += _per_block(recording, quantity, (event for events in passes for event in events))
    runs = _phases(recording, "run")
    during = [event for event in recording.events if any(_begins_in(event, phase) for phase in runs)]
    found += _per_block(recording, "streamed_load", (event for event in during if event.kind == "load"))
    found += _end_to_end(recording, "run", [(phase.end_ns - phase.start_ns) / 1e6 for phase in runs])
    found += _per_block(recording, "run", (event for event in during if event.kind == "run"))
    return tuple(found)


def resource_use_of(recording: Recording) -> ResourceUse:
    """What one variant took, from before its first block was opened to the end of its last run."""
    last_run = max((phase.end_ns for phase in recording.phases if phase.kind in ("warm_up", "run")), default=0)
    samples = [sample for sample in recording.memory if sample.time_ns <= last_run]
    anonymous = [sample.anonymous_bytes for sample in samples if sample.anonymous_bytes is not None]
    file_backed = [sample.file_backed_bytes for sample in samples if sample.file_backed_bytes is not None]
    return ResourceUse(
        component=recording.component,
        variant=recording.variant,
        measure="rss",
        peak_bytes=recording.peak_rss_bytes,
        baseline_bytes=recording.baseline_rss_bytes,
        peak_anonymous_bytes=max(anonymous, default=None),
        peak_file_backed_bytes=max(file_backed, default=None),
        bytes_opened=recording.bytes_opened,
        bytes_read=recording.bytes_read,
    )


def _phases(recording: Recording, kind: PhaseKind) -> list[Phase]:
    return [phase for phase in recording.phases if phase.kind == kind]


def _end_to_end(recording: Recording, quantity: Quantity, samples_ms: list[float]) -> Iterator[Series]:
    if samples_ms:
        yield Series.of(quantity, samples_ms, component=recording.component, variant=recording.variant)


def _per_block(recording: Recording, quantity: Quantity, events: Iterable[Event]) -> Iterator[Series]:
    samples: dict[str, list[float]] = {}
    for event in events:
        samples.setdefault(event.block, []).append(_milliseconds(event))
    for block, samples_ms in samples.items():
        yield Series.of(quantity, samples_ms, component=recording.component, variant=recording.variant, block=block)


def _milliseconds(event: Event) -> float:
    return (event.end_ns - event.start_ns) / 1e6


def _within(event: Event, phase: Phase) -> bool:
    return phase.start_ns <= event.start_ns and event.end_ns <= phase.end_ns


def _begins_in(event: Event, phase: Phase) -> bool:
    return phase.start_ns <= event.start_ns < phase.end_ns
