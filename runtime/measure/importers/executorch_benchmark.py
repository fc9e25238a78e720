"""Reads `benchmark_results.json` of ExecuTorch's Android benchmark app (minibench).

It is a list of records, each one figure: benchmarkModel {name, backend, quantization}, deviceInfo {device: brand,
arch: model, os, totalMem, availMem}, metric, actualValue, targetValue. The app keeps no raw samples. Source:
pytorch/executorch, extension/benchmark/android/benchmark (BenchmarkMetric, ModelRunner, LlmBenchmark).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, Field

from tm_export.runtime.measure.importers.checked import checked
from tm_export.runtime.measure.importers.stated import Stated
from tm_export.runtime.measure.latency_report import (
    Conditions,
    Device,
    EngineInfo,
    Figure,
    LatencyReport,
    Quantity,
    ResourceUse,
    Series,
    Statistics,
)
from tm_export.runtime.measure.reading import UnreadableFile, read_json
from tm_export.runtime.measure.report_terms import DeviceKind

_EXPECTED: Final = "a benchmark_results.json of ExecuTorch's Android benchmark app"

# The app loads a model once, from whatever the page cache holds then.
_TIMES: Final[dict[str, Quantity]] = {
    "avg_inference_latency(ms)": "run",
    "generate_time(ms)": "run",
    "model_load_time(ms)": "load",
    "llm_model_load_time(ms)": "load",
}
_STATUS: Final = "load_status"
_MEMORY: Final = "ram_pss_usage(mb)"  # growth of the PSS, of KiB divided by 1024
_EMULATORS: Final = ("sdk_", "Android SDK built for", "Emulator")

Number = Annotated[float, Field(allow_inf_nan=False)]


class _Model(BaseModel):
    name: Annotated[str, Field(min_length=1)]
    backend: str = ""
    quantization: str = ""


class _Device(BaseModel):
    device: str = ""
    arch: str = ""
    os: str = ""
    totalMem: int = 0


class _Metric(BaseModel):
    benchmarkModel: _Model
    metric: Annotated[str, Field(min_length=1)]
    actualValue: Number
    deviceInfo: _Device = _Device()


def read(path: Path, stated: Stated) -> tuple[LatencyReport, ...]:
    """One report for each model and device in the file.

    Raises:
        UnreadableFile: it is damaged or of another format, a model did not load, or a figure is given twice.
    """
    metrics = checked(path, read_json(path, _EXPECTED), list[_Metric], _EXPECTED)
    if not metrics:
        raise UnreadableFile(f"{path} lists no figures: the app measured nothing; name {_EXPECTED}")
    groups: dict[str, list[_Metric]] = {}
    for metric in metrics:
        groups.setdefault(metric.benchmarkModel.model_dump_json() + metric.deviceInfo.arch, []).append(metric)
    return tuple(_report(path, group, stated) for group in groups.values())


def _report(path: Path, metrics: list[_Metric], stated: Stated) -> LatencyReport:
    model, device = metrics[0].benchmarkModel, metrics[0].deviceInfo
    values: dict[str, float] = {}
    for metric in metrics:
        if metric.metric == _STATUS:
            _refuse_failed_load(path, model.name, metric.actualValue)
        elif metric.metric in values:
            raise UnreadableFile(f"{path} gives {metric.metric!r} of {model.name!r} twice; import one run at a time")
        else:
            values[metric.metric] = metric.actualValue
    times = _times(values)
    if not times:
        raise UnreadableFile(f"{path} has none of {', '.join(_TIMES)} for {model.name!r}; name {_EXPECTED}")
    return LatencyReport(
        source="executorch",
        model=model.name,
        target="executorch",
        precision=model.quantization or None,
        device=_device(device, stated),
        engine=EngineInfo(name="executorch", backend=model.backend or None),
        conditions=Conditions(build=stated.build),
        series=tuple(_series(path, model.name, quantity, name, values[name]) for quantity, name in times.items()),
        resources=tuple(_resources(model.name, values)),
        figures=tuple(
            Figure(component=model.name, name=name, value=value, unit=_unit(name))
            for name, value in values.items()
            if name not in times.values() and name != _MEMORY
        ),
    )


def _refuse_failed_load(path: Path, model: str, status: float) -> None:
    if status != 0:
        raise UnreadableFile(
            f"{path}: {model!r} did not load on the device (load_status {status:g}); export it again for that runtime"
        )


def _times(values: dict[str, float]) -> dict[Quantity, str]:
    """Which metric is the load and which the run; an LLM's own two are that only where its method was not timed."""
    found: dict[Quantity, str] = {}
    for name, quantity in _TIMES.items():
        if name in values:
            found.setdefault(quantity, name)
    return found


def _series(path: Path, model: str, quantity: Quantity, name: str, milliseconds: float) -> Series:
    if milliseconds < 0:
        raise UnreadableFile(f"{path} gives {name!r} of {model!r} as {milliseconds:g}; a time cannot be negative")
    return Series(quantity=quantity, component=model, statistics=Statistics(mean=milliseconds))


def _resources(model: str, values: dict[str, float]) -> Iterator[ResourceUse]:
    # The app subtracts an idle PSS: a difference below zero is noise, not memory used.
    if values.get(_MEMORY, -1.0) >= 0:
        yield ResourceUse(component=model, measure="pss_growth", peak_bytes=round(values[_MEMORY] * 2**20))


def _device(device: _Device, stated: Stated) -> Device:
    system, _, version = device.os.partition(" ")
    name = stated.device or " ".join(filter(None, (device.device, device.arch)))
    return Device(
        name=name or "Android device",
        kind=_kind(device, stated.device_kind),
        os=system or None,
        os_version=version or None,
        memory_bytes=device.totalMem or None,  # the app leaves it 0
    )


def _kind(device: _Device, stated: DeviceKind) -> DeviceKind:
    """An emulator shows itself by its model; phones and tablets do not."""
    return "emulator" if any(mark in device.arch for mark in _EMULATORS) else stated


def _unit(metric: str) -> str:
    """What stands in brackets at the end of a metric's name."""
    return metric[metric.index("(") + 1 : -1] if metric.endswith(")") and "(" in metric else ""
