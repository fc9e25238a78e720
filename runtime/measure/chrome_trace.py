"""Recordings as a Chrome trace, which ui.perfetto.dev and chrome://tracing open.

Source: "Trace Event Format" (Google, 2016): metadata (M), complete (X) and counter (C) events; times in microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tm_export.runtime.measure.latency_report import LatencyReport
from tm_export.runtime.measure.recording import Phase, Recording

_PHASES_THREAD = 1
_FIRST_THREAD = 2


def chrome_trace(report: LatencyReport, recordings: Sequence[Recording]) -> bytes:
    """The JSON of a trace: one process per recording, in it one thread of phases and one per thread of events.

    Loads, runs and closes are complete events with their component, block, variant and bytes as arguments; memory is a
    counter. Time 0 is the earliest thing recorded. The report's label is in `otherData`, and in every process's name.
    """
    zero = min((time for recording in recordings for time in _times(recording)), default=0)
    metadata = [event for recording in recordings for event in _names(recording, report.label)]
    timed = [event for recording in recordings for event in _timed(recording, zero)]
    # Of two slices that begin together the longer one is outside: viewers nest by this order.
    timed.sort(key=lambda event: (event["ts"], -event.get("dur", 0)))
    trace = {
        "displayTimeUnit": "ms",
        "otherData": {"label": report.label, "model": report.model, "device": report.device.name},
        "traceEvents": [*metadata, *timed],
    }
    return (json.dumps(trace, ensure_ascii=False) + "\n").encode()


def _times(recording: Recording) -> Iterator[int]:
    yield from (phase.start_ns for phase in recording.phases)
    yield from (event.start_ns for event in recording.events)
    yield from (sample.time_ns for sample in recording.memory)


def threads_of(recording: Recording) -> tuple[str, ...]:
    """The names of a recording's threads: those that run blocks first, then those that only load."""
    runs = {event.thread: None for event in recording.events if event.kind == "run"}
    return tuple(runs | {event.thread: None for event in recording.events})


def _names(recording: Recording, label: str) -> Iterator[dict[str, Any]]:
    process = recording.process_id
    name = f"{recording.component}/{recording.variant} ({label})"
    yield _metadata("process_name", process, 0, {"name": name})
    threads = {_PHASES_THREAD: "phases", **dict(enumerate(threads_of(recording), start=_FIRST_THREAD))}
    for number, thread in threads.items():
        yield _metadata("thread_name", process, number, {"name": thread})
        yield _metadata("thread_sort_index", process, number, {"sort_index": number})


def _metadata(name: str, process: int, thread: int, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": process, "tid": thread, "args": arguments}


def _timed(recording: Recording, zero: int) -> Iterator[dict[str, Any]]:
    numbers = {name: number for number, name in enumerate(threads_of(recording), start=_FIRST_THREAD)}
    for phase in recording.phases:
        yield _complete(
            phase_name(phase), "phase", recording.process_id, _PHASES_THREAD, phase.start_ns - zero, phase.end_ns - zero
        )
    for event in recording.events:
        complete = _complete(
            f"{event.kind} {event.block}",
            event.kind,
            recording.process_id,
            numbers[event.thread],
            event.start_ns - zero,
            event.end_ns - zero,
        )
        arguments = {
            "component": event.component,
            "block": event.block,
            "variant": event.variant,
            "bytes": event.bytes,
        }
        yield complete | {"args": arguments}
    for sample in recording.memory:
        parts = {"anonymous": sample.anonymous_bytes, "file-backed": sample.file_backed_bytes}
        known = {name: value for name, value in parts.items() if value is not None}
        yield {
            "ph": "C",
            "name": "memory (bytes)",
            "pid": recording.process_id,
            "tid": 0,
            "ts": (sample.time_ns - zero) / 1000,
            "args": known or {"resident": sample.rss_bytes},
        }


def phase_name(phase: Phase) -> str:
    """A phase as people call it: `run 3`, `cold load 1`."""
    return f"{phase.kind.replace('_', '-' if phase.kind == 'warm_up' else ' ')} {phase.number}"


def _complete(name: str, category: str, process: int, thread: int, start_ns: int, end_ns: int) -> dict[str, Any]:
    return {
        "ph": "X",
        "name": name,
        "cat": category,
        "pid": process,
        "tid": thread,
        "ts": start_ns / 1000,
        "dur": (end_ns - start_ns) / 1000,
    }
