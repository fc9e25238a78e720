"""Several reports side by side: one row for each variant of each, with its ratio to the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tm_export.runtime.measure.latency_report import STATISTICS_TO_QUOTE, LatencyReport, Quantity, Series, StatisticName
from tm_export.runtime.measure.report_terms import DeviceKind


@dataclass(frozen=True)
class NamedReport:
    """A report and the name under which it is shown, such as that of its bundle."""

    name: str
    report: LatencyReport


@dataclass(frozen=True)
class Quoted:
    """A time in ms, and which statistic it is."""

    statistic: StatisticName
    milliseconds: float


@dataclass(frozen=True)
class ComparedRow:
    """One variant of one component of one report.

    Attributes:
        name: the report's name.
        report: the report.
        component: the component.
        variant: its variant; None where the source has no variants.
        cold_load: end to end; None where it was not measured. So with the next two.
        warm_load: or a load of which it is not known whether it was cold.
        run: end to end.
        run_p90_ms: of the run, where there are percentiles.
        peak_bytes: of memory, by the measure that the report names.
        ratio: time of the run divided by that of the first row of this component; None where the two share no
            statistic, or one has no run.
        ratio_of: the statistic that was divided: the median where both have one, else the mean.
        differences: how the device or the conditions differ from the first row's, to be shown beside the ratio.
    """

    name: str
    report: LatencyReport
    component: str
    variant: str | None
    cold_load: Quoted | None
    warm_load: Quoted | None
    run: Quoted | None
    run_p90_ms: float | None
    peak_bytes: int | None
    ratio: float | None
    ratio_of: StatisticName | None
    differences: tuple[str, ...]


def compare(reports: Sequence[NamedReport]) -> tuple[ComparedRow, ...]:
    """Rows by component in the order of their first occurrence, within it in the order of the reports.

    A component's first row is what its other rows are divided by, other variants of the same report included. Where
    every report has a single component, they are compared whatever these are called.
    """
    places = [(named, component, variant) for named in reports for component, variant in named.report.variants()]
    single = all(len({component for component, _ in named.report.variants()}) == 1 for named in reports)
    groups: dict[str, list[tuple[NamedReport, str, str | None]]] = {}
    for place in places:
        groups.setdefault("" if single else place[1], []).append(place)
    return tuple(row for group in groups.values() for row in _rows(group))


def _rows(group: Sequence[tuple[NamedReport, str, str | None]]) -> Iterator[ComparedRow]:
    first, first_component, first_variant = group[0]
    base = first.report.find("run", first_component, first_variant)
    for named, component, variant in group:
        report = named.report
        run = report.find("run", component, variant)
        ratio_of = _shared_statistic(base, run)
        use = report.resource_use(component, variant)
        yield ComparedRow(
            name=named.name,
            report=report,
            component=component,
            variant=variant,
            cold_load=_quoted(report, "cold_load", component, variant),
            warm_load=_quoted(report, "warm_load", component, variant) or _quoted(report, "load", component, variant),
            run=_quoted(report, "run", component, variant),
            run_p90_ms=run.statistics.p90 if run else None,
            peak_bytes=use.peak_bytes if use else None,
            ratio=_ratio(base, run, ratio_of),
            ratio_of=ratio_of,
            differences=tuple(_differences(first.report, report)),
        )


def _quoted(report: LatencyReport, quantity: Quantity, component: str, variant: str | None) -> Quoted | None:
    series = report.find(quantity, component, variant)
    return Quoted(*series.statistics.typical()) if series else None


def _shared_statistic(base: Series | None, run: Series | None) -> StatisticName | None:
    """The statistic to divide: a median is never divided by a mean."""
    if base is None or run is None:
        return None
    for name in STATISTICS_TO_QUOTE:
        if base.statistics.value(name) and run.statistics.value(name) is not None:
            return name
    return None


def _ratio(base: Series | None, run: Series | None, statistic: StatisticName | None) -> float | None:
    if base is None or run is None or statistic is None:
        return None
    divisor, value = base.statistics.value(statistic), run.statistics.value(statistic)
    assert divisor and value is not None, "a shared statistic is one that both have"
    return value / divisor


_KINDS: dict[DeviceKind, str] = {
    "phone": "a phone",
    "tablet": "a tablet",
    "desktop": "a desktop",
    "emulator": "an emulator",
    "unknown": "an unknown device",
}


def _differences(first: LatencyReport, other: LatencyReport) -> Iterator[str]:
    if first.device.kind != other.device.kind:
        yield f"{_KINDS[other.device.kind]}, not {_KINDS[first.device.kind]}"
    elif first.device.name != other.device.name:
        yield "another device"
    if first.conditions.build != other.conditions.build:
        yield f"build {other.conditions.build}, not {first.conditions.build}"
    if first.conditions.profiler != other.conditions.profiler:
        yield "profiler on" if other.conditions.profiler else "profiler off"
    if first.engine.threads != other.engine.threads:
        yield f"{_threads(other)}, not {_threads(first)}"
    if first.memory_budget_bytes != other.memory_budget_bytes:
        yield "another memory budget"


def _threads(report: LatencyReport) -> str:
    return "threads unstated" if report.engine.threads is None else f"{report.engine.threads} threads"
