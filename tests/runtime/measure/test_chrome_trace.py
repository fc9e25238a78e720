"""The trace: every rule of the format that a viewer relies on, and the recording's own times in it."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.measured import MS, recording, report
from tm_export.runtime.loading.events import Event
from tm_export.runtime.measure.chrome_trace import chrome_trace
from tm_export.runtime.measure.recording import Phase, Recording


def trace_of(*recordings: Recording) -> dict[str, Any]:
    trace: dict[str, Any] = json.loads(chrome_trace(report(), recordings))
    return trace


def check(trace: dict[str, Any]) -> None:
    """Raise unless the trace keeps the format: fields and their types, order of time, slices nested on each thread."""
    assert set(trace) == {"displayTimeUnit", "otherData", "traceEvents"}
    fields = {
        "M": {"ph", "name", "pid", "tid", "args"},
        "X": {"ph", "name", "cat", "pid", "tid", "ts", "dur"},
        "C": {"ph", "name", "pid", "tid", "ts", "args"},
    }
    last, open_slices = 0.0, {}
    for event in trace["traceEvents"]:
        assert fields[event["ph"]] <= set(event) <= fields[event["ph"]] | {"args"}
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int) and event["name"]
        if event["ph"] == "M":
            assert last == 0.0 and event["name"] in ("process_name", "thread_name", "thread_sort_index")
            continue
        assert math.isfinite(event["ts"]) and event["ts"] >= last
        last = event["ts"]
        if event["ph"] == "C":
            assert event["args"] and all(isinstance(value, int) for value in event["args"].values())
            continue
        assert event["dur"] >= 0
        start, end = round(event["ts"] * 1000), round((event["ts"] + event["dur"]) * 1000)
        stack = open_slices.setdefault((event["pid"], event["tid"]), [])
        while stack and stack[-1] <= start:
            stack.pop()
        assert not stack or end <= stack[-1], f"{event['name']} crosses the end of the slice around it"
        stack.append(end)
    named = {(e["pid"], e["tid"]) for e in trace["traceEvents"] if e["name"] == "thread_name"}
    assert set(open_slices) <= named


def test_a_recording_becomes_a_valid_trace_with_its_times() -> None:
    made = recording()
    trace = trace_of(made)
    check(trace)
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(slices) == len(made.phases) + len(made.events)
    first = next(event for event in slices if event["name"] == "run a")
    assert (first["ts"], first["dur"]) == (5000.0, 10000.0)  # memory was sampled 5 ms before
    assert first["args"] == {"component": "net", "block": "a", "variant": "full", "bytes": 40}
    counters = [event for event in trace["traceEvents"] if event["ph"] == "C"]
    assert [event["args"]["anonymous"] for event in counters] == [s.anonymous_bytes for s in made.memory]
    names = {(e["tid"], e["args"]["name"]) for e in trace["traceEvents"] if e["name"] == "thread_name"}
    assert names == {(1, "phases"), (2, "MainThread"), (3, "loader_0")}


def test_the_label_stands_where_a_viewer_shows_it() -> None:
    trace = trace_of(recording())
    process = next(event for event in trace["traceEvents"] if event["name"] == "process_name")
    assert "desktop figure, not a phone's" in process["args"]["name"]
    assert trace["otherData"]["label"] == "desktop figure, not a phone's"


def test_two_recordings_are_two_processes_on_one_time_axis() -> None:
    later = recording(process_id=4712, variant="merged", phases=(Phase("run", 1, 3000 * MS, 3001 * MS),), events=())
    trace = trace_of(recording(), later)
    check(trace)
    assert {event["pid"] for event in trace["traceEvents"]} == {4711, 4712}
    run = next(e for e in trace["traceEvents"] if e["pid"] == 4712 and e["ph"] == "X")
    assert run["ts"] == (3000 - 995) * 1000


@given(
    st.lists(
        st.tuples(st.sampled_from(["run", "load", "close"]), st.integers(0, 10**9), st.integers(0, 10**6)), max_size=30
    ),
    st.integers(0, 10**15),
)
def test_any_sequence_of_events_is_a_valid_trace(steps: list[tuple[Any, int, int]], zero: int) -> None:
    events, now = [], zero
    for kind, duration, pause in steps:
        thread = "loader_0" if kind == "load" else "MainThread"
        events.append(Event(kind, "net", "a", "full", now, now + duration, thread, 1))
        now += duration + pause
    phases = (Phase("run", 1, zero, max(now, zero)),)
    trace = trace_of(recording(phases=phases, events=tuple(events), memory=()))
    check(trace)
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X" and event["cat"] != "phase"]
    found = sorted((round(e["ts"] * 1000) + zero, round(e["dur"] * 1000)) for e in slices)
    assert found == sorted((event.start_ns, event.end_ns - event.start_ns) for event in events)


def test_the_check_finds_slices_that_cross() -> None:
    crossing = (
        Event("run", "net", "a", "full", 0, 10, "MainThread", 1),
        Event("run", "net", "b", "full", 5, 15, "MainThread", 1),
    )
    with pytest.raises(AssertionError, match="crosses"):
        check(trace_of(recording(events=crossing, phases=(), memory=())))
