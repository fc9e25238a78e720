"""The latency report: what `latency_report.json` says, one schema for every device and every source.

All times are in milliseconds, all sizes in bytes. A report says under which conditions its figures were taken, and
its label says in a few words what they are not: every rendering must show it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    computed_field,
    model_validator,
)

from tm_export.runtime.measure.percentiles import percentile
from tm_export.runtime.measure.reading import UnreadableFile, read_json
from tm_export.runtime.measure.report_terms import Build, DeviceKind, PageCache

SCHEMA_VERSION: Final = 1
REPORT_NAME: Final = "latency_report.json"
_EXPECTED: Final = "a latency_report.json of tm-bench or of the apps"

Source = Literal["tm-bench", "ios-app", "android-app", "executorch", "ort", "xcodebuild", "ai-hub"]
Quantity = Literal["cold_load", "warm_load", "load", "streamed_load", "run"]
StatisticName = Literal["p50", "mean", "estimate"]

Name = Annotated[str, Field(min_length=1)]
Bytes = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Device(_Record):
    """What the figures were taken on; what a source does not say is None or `unknown`."""

    name: Name
    kind: DeviceKind
    os: Name | None = None
    os_version: Name | None = None
    cpu: Name | None = None
    cores: Annotated[int, Field(ge=1)] | None = None
    memory_bytes: Bytes | None = None
    virtual_machine: bool | None = None


class EngineInfo(_Record):
    """What executed the blocks; `threads` None: as many as the engine chooses."""

    name: Name
    version: Name | None = None
    backend: Name | None = None
    threads: Annotated[int, Field(ge=1)] | None = None


class Artifact(_Record):
    """A file that was run."""

    path: Name
    bytes: Bytes
    sha256: Sha256


class Conditions(_Record):
    """What else bears on a figure.

    `thermal_state` uses the words of Apple's ProcessInfo.ThermalState. `load_average` is the number of runnable
    processes (mean of the last minute) before measuring, `other_load_cores` how many cores were busy with other work
    while runs were measured. `page_cache` says whether the OS had dropped the bundle's files from its cache before
    every cold load. `inputs` says where the tensors came from.
    """

    build: Build = "unknown"
    date: datetime | None = None
    power: Literal["external", "battery", "low_power_mode", "unknown"] = "unknown"
    thermal_state: Literal["nominal", "fair", "serious", "critical", "unknown"] = "unknown"
    load_average: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    other_load_cores: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    page_cache: PageCache = "unknown"
    profiler: bool = False
    inputs: Literal["golden", "generated", "mixed", "unknown"] = "unknown"


class Statistics(_Record):
    """Of a number of samples, in ms; percentiles as `runtime.measure.percentiles` defines them.

    A source that keeps its samples to itself leaves None what it does not state. `estimate` is a single figure whose
    source does not say which statistic it is.
    """

    count: Annotated[int, Field(ge=1)] | None = None
    mean: Milliseconds | None = None
    min: Milliseconds | None = None
    p50: Milliseconds | None = None
    p90: Milliseconds | None = None
    p99: Milliseconds | None = None
    max: Milliseconds | None = None
    estimate: Milliseconds | None = None

    @classmethod
    def of(cls, samples_ms: Sequence[float]) -> Statistics:
        """The statistics of raw samples, of which there must be one at least."""
        return cls(
            count=len(samples_ms),
            mean=math.fsum(samples_ms) / len(samples_ms),
            min=min(samples_ms),
            p50=percentile(samples_ms, 50),
            p90=percentile(samples_ms, 90),
            p99=percentile(samples_ms, 99),
            max=max(samples_ms),
        )

    def typical(self) -> tuple[StatisticName, float]:
        """The figure to quote, and which one it is: the median, else the mean, else the estimate."""
        for name in STATISTICS_TO_QUOTE:
            value = self.value(name)
            if value is not None:
                return name, value
        raise AssertionError("a series has a median, a mean or an estimate")

    def value(self, name: StatisticName) -> float | None:
        """One of the statistics that may be quoted."""
        return {"p50": self.p50, "mean": self.mean, "estimate": self.estimate}[name]


STATISTICS_TO_QUOTE: Final[tuple[StatisticName, ...]] = ("p50", "mean", "estimate")


class Series(_Record):
    """One quantity of one thing, measured again and again.

    `block` None: end to end, from the component's inputs to its outputs for a run, all its blocks one after another
    for a load. `operator` names operators of one type, all their time within a run together.

    cold_load: the files were not in the OS's page cache. The process and the engine's library were up already.
    warm_load: the files were in the page cache. load: it is not known which. streamed_load: made while runs went on,
    as a memory budget forces it.
    """

    quantity: Quantity
    component: Name
    variant: Name | None = None
    block: Name | None = None
    operator: Name | None = None
    samples_ms: tuple[Milliseconds, ...] = ()
    statistics: Statistics

    @classmethod
    def of(
        cls,
        quantity: Quantity,
        samples_ms: Sequence[float],
        *,
        component: str,
        variant: str | None = None,
        block: str | None = None,
        operator: str | None = None,
    ) -> Series:
        """The series of these raw samples, of which there must be one at least."""
        return cls(
            quantity=quantity,
            component=component,
            variant=variant,
            block=block,
            operator=operator,
            samples_ms=tuple(samples_ms),
            statistics=Statistics.of(samples_ms),
        )

    @property
    def is_end_to_end(self) -> bool:
        """Whether it is about the whole component."""
        return self.block is None and self.operator is None

    @model_validator(mode="after")
    def _statistics_are_those_of_the_samples(self) -> Series:
        where = f"{self.quantity} of {'/'.join(filter(None, (self.component, self.variant, self.block)))}"
        if not self.samples_ms:
            if all(self.statistics.value(name) is None for name in STATISTICS_TO_QUOTE):
                raise ValueError(f"{where} has neither samples nor a p50, mean or estimate")
            return self
        computed = Statistics.of(self.samples_ms)
        for name, value in computed:
            stated = getattr(self.statistics, name)
            if (stated is None) != (value is None) or (
                value is not None and not math.isclose(stated, value, rel_tol=1e-6, abs_tol=1e-9)
            ):
                raise ValueError(f"{name} of {where} is stated as {stated}, its samples give {value}")
        return self


class ResourceUse(_Record):
    """What one variant of a component took while it ran (None: not known).

    `measure` says what kind of bytes the peak counts: rss (resident set of the process), footprint (Apple's physical
    footprint), pss_growth (growth of Android's proportional set), estimate (the source's own reckoning).
    `baseline_bytes` is the same measure before the first block was opened. `peak_anonymous_bytes` and
    `peak_file_backed_bytes` are the largest sampled, each at its own time. `bytes_opened` is the size of the files
    behind one load of all blocks, `bytes_read` what the OS read from storage for one cold load of them.
    """

    component: Name
    variant: Name | None = None
    measure: Literal["rss", "footprint", "pss_growth", "estimate"] = "rss"
    peak_bytes: Bytes | None = None
    baseline_bytes: Bytes | None = None
    peak_anonymous_bytes: Bytes | None = None
    peak_file_backed_bytes: Bytes | None = None
    bytes_opened: Bytes | None = None
    bytes_read: Bytes | None = None


class Figure(_Record):
    """Something that a source states and that has no place elsewhere in the schema."""

    component: Name
    name: Name
    value: Annotated[float, Field(allow_inf_nan=False)]
    unit: str


class LatencyReport(_Record):
    """All that was measured of one model on one device in one go.

    `warmup_runs` of each variant are left out of the samples; `measured_runs` are in them. `memory_budget_bytes` is
    what the whole process was allowed to hold; None: every block stays open. `prefetch_depth` is how many calls ahead
    blocks are loaded.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    source: Source
    model: Name
    target: str | None = None
    precision: Name | None = None
    device: Device
    engine: EngineInfo
    conditions: Conditions
    manifest_sha256: Sha256 | None = None
    artifacts: tuple[Artifact, ...] = ()
    memory_budget_bytes: Bytes | None = None
    prefetch_depth: Count | None = None
    warmup_runs: Count | None = None
    measured_runs: Count | None = None
    series: Annotated[tuple[Series, ...], Field(min_length=1)]
    resources: tuple[ResourceUse, ...] = ()
    figures: tuple[Figure, ...] = ()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def label(self) -> str:
        """What every rendering must show beside the figures: what they are, and what they are not."""
        return "; ".join(_label_parts(self))

    def find(
        self, quantity: Quantity, component: str, variant: str | None = None, block: str | None = None
    ) -> Series | None:
        """The series of that name, or None."""
        wanted = (quantity, component, variant, block, None)
        for series in self.series:
            if (series.quantity, series.component, series.variant, series.block, series.operator) == wanted:
                return series
        return None

    def variants(self) -> tuple[tuple[str, str | None], ...]:
        """The components and variants that have series, in order."""
        return tuple(dict.fromkeys((series.component, series.variant) for series in self.series))

    def resource_use(self, component: str, variant: str | None) -> ResourceUse | None:
        """What that variant took, or None."""
        for use in self.resources:
            if (use.component, use.variant) == (component, variant):
                return use
        return None

    @model_validator(mode="wrap")
    @classmethod
    def _stated_label_is_the_computed_one(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(value, dict) or "label" not in value:
            return handler(value)
        report = handler({key: entry for key, entry in value.items() if key != "label"})
        if value["label"] != report.label:
            raise ValueError(f"the label is {value['label']!r}; by its device and conditions it is {report.label!r}")
        return report

    @model_validator(mode="after")
    def _series_are_named_once(self) -> LatencyReport:
        names = Counter((s.quantity, s.component, s.variant, s.block, s.operator) for s in self.series)
        for name, count in names.items():
            if count > 1:
                raise ValueError(f"series given twice: {' / '.join(filter(None, name))}")
        return self


_BUSY_CORES: Final = 0.25  # below this, what others do is hardly seen in a median
_KIND_LABELS: Final[dict[DeviceKind, str]] = {
    "desktop": "desktop figure, not a phone's",
    "phone": "phone figure",
    "tablet": "tablet figure, not a phone's",
    "emulator": "emulated, no real device's figure",
    "unknown": "device unknown",
}


def _label_parts(report: LatencyReport) -> Iterator[str]:
    yield _KIND_LABELS[report.device.kind]
    if report.device.virtual_machine:
        yield "virtual machine"
    if report.conditions.build != "release":
        yield "debug build" if report.conditions.build == "debug" else "build unknown"
    if report.engine.name == "coreml-reference":
        yield "reference engine, not Core ML's speed"
    if report.conditions.profiler:
        yield "profiler on"
    if (report.conditions.other_load_cores or 0) >= _BUSY_CORES:
        yield f"{report.conditions.other_load_cores:.1f} cores busy with other work"
    if report.conditions.power == "low_power_mode":
        yield "low power mode"
    if report.conditions.thermal_state in ("serious", "critical"):
        yield f"thermal state {report.conditions.thermal_state}"
    if report.source in ("executorch", "ort", "xcodebuild", "ai-hub"):
        yield f"imported from {report.source}"


def report_json(report: LatencyReport) -> bytes:
    """The bytes of `latency_report.json`: equal reports give equal bytes (sorted keys, UTF-8, final newline)."""
    return _deterministic_json(report.model_dump(mode="json"))


def report_schema() -> bytes:
    """The JSON Schema of `latency_report.json`, as committed in `runtime/measure/latency_report.schema.json`."""
    return _deterministic_json(LatencyReport.model_json_schema(mode="serialization"))


def _deterministic_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_report(path: Path) -> LatencyReport:
    """Reads and checks a report, its statistics and its label included.

    Raises:
        UnreadableFile: it is missing, no JSON, of another schema version, or inconsistent.
    """
    value = read_json(path, _EXPECTED)
    version = value.get("schema_version") if isinstance(value, dict) else None
    if type(version) is not int or version != SCHEMA_VERSION:
        raise UnreadableFile(
            f"{path} has schema version {version!r}, this tool reads {SCHEMA_VERSION}; name {_EXPECTED}, "
            "or add --import and --from for a report from elsewhere"
        )
    try:
        return LatencyReport.model_validate(value)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'report'}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()[:5]
        )
        raise UnreadableFile(f"{path} is not a valid latency report ({problems}); measure again") from None
