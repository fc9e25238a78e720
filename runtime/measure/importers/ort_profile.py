"""Reads a profile of ONNX Runtime (`SessionOptions.enable_profiling`).

It is a JSON array of Chrome trace events, times in microseconds: category Session with model_loading_uri (or _array,
_proto), session_initialization and model_run; category Node with `<node>_kernel_time`, whose arguments name the
operator (op_name) and the provider. Checked against profiles of ONNX Runtime 1.31.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, Field

from tm_export.runtime.measure.importers.checked import checked
from tm_export.runtime.measure.importers.stated import Stated
from tm_export.runtime.measure.latency_report import Conditions, Device, EngineInfo, LatencyReport, Series
from tm_export.runtime.measure.reading import UnreadableFile, read_json

_EXPECTED: Final = "a profile of ONNX Runtime (JSON, complete: end_profiling was called)"
_COMPONENT: Final = "session"
_LOADING: Final = "model_loading"
_INITIALISING: Final = "session_initialization"
_RUN: Final = "model_run"
_KERNEL: Final = "_kernel_time"

Microseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Arguments(BaseModel):
    op_name: str | None = None
    provider: str | None = None


class _Event(BaseModel):
    cat: str = ""
    name: str
    ts: Microseconds
    dur: Microseconds = 0
    args: _Arguments = _Arguments()

    @property
    def end(self) -> float:
        return self.ts + self.dur


def read(path: Path, stated: Stated) -> tuple[LatencyReport, ...]:
    """One report: the load, every run but the warm-up ones, and in each run the kernels of each type of operator.

    Kernels are slower with the profiler on, which the report's label says. Operators that hold others (If, Loop) count
    theirs too.

    Raises:
        UnreadableFile: it is damaged, of another format, or has no more runs than are to be left out.
    """
    events = checked(path, read_json(path, _EXPECTED), list[_Event], _EXPECTED)
    runs = sorted((event for event in events if event.cat == "Session" and event.name == _RUN), key=lambda e: e.ts)
    if not runs:
        raise UnreadableFile(f"{path} has no event {_RUN!r}: no run was profiled; name {_EXPECTED}")
    if any(earlier.end > later.ts for earlier, later in pairwise(runs)):
        raise UnreadableFile(f"{path} has runs that overlap; profile with one thread calling the session")
    measured = runs[stated.warmup_runs :]
    if not measured:
        raise UnreadableFile(f"{path} has {len(runs)} runs, all of them left out as warm-up; ask for fewer")
    kernels = [event for event in events if event.cat == "Node" and event.name.endswith(_KERNEL)]
    providers = dict.fromkeys(event.args.provider for event in kernels if event.args.provider)
    return (
        LatencyReport(
            source="ort",
            model=path.stem,
            target="onnx",
            device=Device(name=stated.device or "device not stated", kind=stated.device_kind),
            engine=EngineInfo(name="onnxruntime", backend=", ".join(providers) or None),
            conditions=Conditions(build=stated.build, profiler=True),
            warmup_runs=stated.warmup_runs,
            measured_runs=len(measured),
            series=(
                *_load(events),
                Series.of("run", [run.dur / 1e3 for run in measured], component=_COMPONENT),
                *_operators(kernels, measured),
            ),
        ),
    )


def _load(events: list[_Event]) -> Iterator[Series]:
    """Reading the model and making the session ready, together."""
    parts = [
        event.dur
        for event in events
        if event.cat == "Session" and (event.name.startswith(_LOADING) or event.name == _INITIALISING)
    ]
    if parts:
        yield Series.of("load", [sum(parts) / 1e3], component=_COMPONENT)


def _operators(kernels: list[_Event], runs: list[_Event]) -> Iterator[Series]:
    """For each type of operator the time of all its kernels in each run, in ms."""
    starts = [run.ts for run in runs]
    totals: dict[str, list[float]] = {}
    for kernel in kernels:
        number = bisect_right(starts, kernel.ts) - 1
        if number < 0 or kernel.ts >= runs[number].end:
            continue  # of a warm-up run, or of none
        name = kernel.args.op_name or kernel.name.removesuffix(_KERNEL)
        totals.setdefault(name, [0.0] * len(runs))[number] += kernel.dur / 1e3
    for name, samples_ms in totals.items():
        yield Series.of("run", samples_ms, component=_COMPONENT, operator=name)
