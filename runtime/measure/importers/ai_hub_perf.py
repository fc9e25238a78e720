"""Reads `perf.yaml` of Qualcomm's ai-hub-models.

precisions → components → performance_metrics → device → runtime → inference_time_milliseconds,
estimated_peak_memory_range_mb {min, max} (of 2²⁰ bytes), primary_compute_unit, layer_counts {total, npu, gpu, cpu},
job_status, tool_versions; for an LLM llm_metrics with tokens_per_second and time_to_first_token_range_milliseconds.
Source: qualcomm/ai-hub-models, the schema and the files of 2025 and 2026.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel, Field

from tm_export.runtime.measure.importers.checked import checked
from tm_export.runtime.measure.importers.stated import Stated
from tm_export.runtime.measure.latency_report import (
    Conditions,
    Device,
    EngineInfo,
    Figure,
    LatencyReport,
    ResourceUse,
    Series,
    Statistics,
)
from tm_export.runtime.measure.reading import UnreadableFile, read_text
from tm_export.runtime.measure.report_terms import DeviceKind

_EXPECTED: Final = "a perf.yaml of ai-hub-models (with precisions, components and performance_metrics)"

# Only names that leave no doubt; reference boards and proxies stay unknown.
_KINDS: Final[tuple[tuple[str, DeviceKind], ...]] = (
    ("Samsung Galaxy Tab", "tablet"),
    ("Samsung Galaxy", "phone"),
    ("Google Pixel", "phone"),
    ("Xiaomi", "phone"),
    ("OnePlus", "phone"),
)
_TOOL_OF_RUNTIME: Final = {"onnx": "onnx_runtime", "tflite": "tflite"}

Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class _Range(BaseModel):
    min: Positive
    max: Positive


class _LlmMetrics(BaseModel):
    context_length: Count
    tokens_per_second: Positive
    time_to_first_token_range_milliseconds: _Range


class _Details(BaseModel):
    job_status: str | None = None
    inference_time_milliseconds: Positive | None = None
    estimated_peak_memory_range_mb: _Range | None = None
    primary_compute_unit: str | None = None
    layer_counts: dict[str, Count] = {}
    tool_versions: dict[str, str] = {}
    llm_metrics: tuple[_LlmMetrics, ...] | None = None


class _Component(BaseModel):
    performance_metrics: dict[str, dict[str, _Details]] = {}


class _Precision(BaseModel):
    components: dict[str, _Component]


class _Perf(BaseModel):
    precisions: dict[str, _Precision]


def read(path: Path, stated: Stated) -> tuple[LatencyReport, ...]:
    """One report for each precision, device and runtime that has a time; jobs that failed have none.

    Times are `estimate`s: the file does not say which statistic they are.

    Raises:
        UnreadableFile: it is damaged, of another format (the layout before 2025 among them), or has no time at all.
    """
    perf = checked(path, _read_yaml(path), _Perf, _EXPECTED)
    # The file does not name its model; in the repository, its folder does.
    model = path.resolve().parent.name if path.name == "perf.yaml" else path.stem
    grouped: dict[tuple[str, str, str], dict[str, _Details]] = {}
    for precision, components in perf.precisions.items():
        for component, metrics in components.components.items():
            for device, runtimes in metrics.performance_metrics.items():
                for runtime, details in runtimes.items():
                    if details.inference_time_milliseconds is not None:
                        grouped.setdefault((precision, device, runtime), {})[component] = details
    if not grouped:
        raise UnreadableFile(f"{path} has no inference_time_milliseconds: no job passed, or all are LLMs' jobs")
    return tuple(_report(model or "model", *key, details, stated) for key, details in grouped.items())


def _read_yaml(path: Path) -> Any:
    text = read_text(path, _EXPECTED)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UnreadableFile(f"{path} is not valid YAML ({reason}); name {_EXPECTED}") from None


def _report(
    model: str, precision: str, device: str, runtime: str, details: dict[str, _Details], stated: Stated
) -> LatencyReport:
    first = next(iter(details.values()))
    units = dict.fromkeys(part.primary_compute_unit for part in details.values() if part.primary_compute_unit)
    return LatencyReport(
        source="ai-hub",
        model=model,
        target="onnx" if "onnx" in runtime else None,
        precision=precision,
        device=Device(name=device, kind=_kind(device, stated.device_kind)),
        engine=EngineInfo(
            name=runtime,
            version=first.tool_versions.get(_TOOL_OF_RUNTIME.get(runtime, "qairt")),
            backend=", ".join(units) or None,
        ),
        conditions=Conditions(build=stated.build),
        series=tuple(
            Series(quantity="run", component=name, statistics=Statistics(estimate=part.inference_time_milliseconds))
            for name, part in details.items()
        ),
        resources=tuple(
            ResourceUse(component=name, measure="estimate", peak_bytes=round(memory.max * 2**20))
            for name, part in details.items()
            if (memory := part.estimated_peak_memory_range_mb) is not None
        ),
        figures=tuple(figure for name, part in details.items() for figure in _figures(name, part)),
    )


def _figures(component: str, details: _Details) -> Iterator[Figure]:
    for unit, count in details.layer_counts.items():
        yield Figure(component=component, name=f"layers, {unit}", value=count, unit="")
    for metrics in details.llm_metrics or ():
        context = f"context {metrics.context_length}"
        rate, first_token = metrics.tokens_per_second, metrics.time_to_first_token_range_milliseconds
        yield Figure(component=component, name=f"tokens per second, {context}", value=rate, unit="/s")
        yield Figure(component=component, name=f"first token at least, {context}", value=first_token.min, unit="ms")
        yield Figure(component=component, name=f"first token at most, {context}", value=first_token.max, unit="ms")


def _kind(device: str, stated: DeviceKind) -> DeviceKind:
    if device.endswith("(Proxy)"):
        return stated
    return next((kind for start, kind in _KINDS if device.startswith(start)), stated)
