"""Recordings and reports made up for the tests of what shows them."""

from collections.abc import Sequence
from typing import Any

from tm_export.runtime.loading.events import Event
from tm_export.runtime.loading.memory import MemorySample
from tm_export.runtime.measure.latency_report import Conditions, Device, EngineInfo, LatencyReport, Series
from tm_export.runtime.measure.recording import Phase, Recording
from tm_export.runtime.measure.report_terms import Build, DeviceKind

MS = 1_000_000


def recording(**changes: Any) -> Recording:
    """One warm-up run, two runs of two blocks (10 and 20 ms), with the second block loaded beside them; one cold load.

    Times start at 1 s; memory is sampled every 5 ms, 100 MB of it anonymous.
    """
    start = 1000 * MS
    phases, events = [], []
    for number, kind in enumerate(("warm_up", "run", "run")):
        began = start + number * 40 * MS
        phases.append(Phase(kind, 1 if kind == "warm_up" else number, began, began + 35 * MS))
        events += [
            Event("run", "net", "a", "full", began, began + 10 * MS, "MainThread", 40),
            Event("load", "net", "b", "full", began + 1 * MS, began + 9 * MS, "loader_0", 50),
            Event("run", "net", "b", "full", began + 12 * MS, began + 32 * MS, "MainThread", 60),
            Event("close", "net", "b", "full", began + 32 * MS, began + 33 * MS, "MainThread", 50),
        ]
    began = start + 130 * MS
    phases.append(Phase("cold_load", 1, began, began + 30 * MS))
    events += [
        Event("load", "net", "a", "full", began, began + 12 * MS, "MainThread", 40),
        Event("close", "net", "a", "full", began + 12 * MS, began + 14 * MS, "MainThread", 40),
        Event("load", "net", "b", "full", began + 14 * MS, began + 29 * MS, "MainThread", 50),
    ]
    memory = [
        MemorySample(start + at * MS, (150 + at) * 10**6, 100 * 10**6, (50 + at) * 10**6) for at in range(-5, 165, 5)
    ]
    made = {
        "component": "net",
        "variant": "full",
        "process_id": 4711,
        "engine": EngineInfo(name="onnxruntime", version="1.31.1"),
        "phases": tuple(phases),
        "events": tuple(events),
        "memory": tuple(memory),
        "baseline_rss_bytes": 145 * 10**6,
        "peak_rss_bytes": 300 * 10**6,
        "page_cache": "dropped",
        "bytes_opened": 90,
        "bytes_read": 80,
        "other_load_cores": 0.0,
        "inputs": "generated",
    }
    return Recording(**(made | changes))


def report(
    runs: Sequence[float] = (10.0, 12.0, 11.0),
    *,
    kind: DeviceKind = "desktop",
    build: Build = "release",
    **changes: Any,
) -> LatencyReport:
    """A report of one component with these runs, in ms."""
    made = {
        "source": "tm-bench",
        "model": "chain",
        "target": "onnx",
        "device": Device(name=f"some {kind}", kind=kind),
        "engine": EngineInfo(name="onnxruntime", version="1.31.1"),
        "conditions": Conditions(build=build),
        "series": (Series.of("run", runs, component="net", variant="full"),),
    }
    return LatencyReport(**(made | changes))
