"""The pages to look at: one about a report, one that compares several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tm_export.runtime.measure.compare import ComparedRow, NamedReport, compare
from tm_export.runtime.measure.latency_report import LatencyReport, Quantity, Series
from tm_export.runtime.measure.recording import Recording
from tm_export.runtime.measure.report_terms import DeviceKind
from tm_export.runtime.measure.timeline import timeline, windows_of
from tm_export.runtime.readable import in_bytes, in_milliseconds

_HERE = Path(__file__).parent

_QUANTITIES: dict[Quantity, str] = {
    "cold_load": "cold load",
    "warm_load": "warm load",
    "load": "load (cold or warm: not known)",
    "streamed_load": "load while running",
    "run": "run",
}
_KINDS: dict[DeviceKind, str] = {
    "phone": "phone",
    "tablet": "tablet",
    "desktop": "desktop",
    "emulator": "emulator",
    "unknown": "kind unknown",
}


def render_report(report: LatencyReport, recordings: Sequence[Recording] = ()) -> str:
    """Return the page about one report as one HTML document that asks for nothing else and runs no script.

    Timelines are drawn of the recordings, of which an imported report has none. The same report and recordings give
    the same page. Text from the report is escaped wherever it stands.
    """
    return _fill(
        "report.html",
        title=f"{report.model}: latency ({report.label})",
        report=report,
        recordings={(recording.component, recording.variant): recording for recording in recordings},
        windows_of=windows_of,
        timeline=timeline,
        rows=compare([NamedReport(report.model, report)]),
    )


def render_comparison(reports: Sequence[NamedReport]) -> str:
    """Return the page that compares reports in one table, in the same style and just as self-contained."""
    return _fill(
        "comparison.html",
        title=f"Latency of {len(reports)} reports",
        reports=reports,
        rows=compare(reports),
        differences=_differences,
    )


def _fill(template: str, **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bytes": in_bytes,
        "ms": in_milliseconds,
        "quantity": _QUANTITIES.__getitem__,
        "kind": _KINDS.__getitem__,
        "end_to_end": _end_to_end,
        "blocks": _blocks,
        "operators": _operators,
    }
    environment.globals["bar"] = _bar
    style = (_HERE / "style.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=style, **values)


def _bar(value: float, largest: float) -> Markup:
    """Draw a horizontal bar as long as `value` is of `largest`."""
    width = 100 * value / largest if largest > 0 else 0.0
    return Markup(
        '<svg class="bar" aria-hidden="true"><rect class="track" width="100%" height="100%"/>'
        '<rect class="fill" width="{:.2f}%" height="100%"/></svg>'
    ).format(width)


def _end_to_end(report: LatencyReport, component: str, variant: str | None) -> list[Series]:
    """The series about a whole component, loads first."""
    found = [report.find(quantity, component, variant) for quantity in _QUANTITIES]
    return [series for series in found if series is not None]


def _blocks(report: LatencyReport, component: str, variant: str | None) -> list[str]:
    """The blocks that have series, in the order of the first."""
    names = (s.block for s in report.series if (s.component, s.variant) == (component, variant))
    return list(dict.fromkeys(name for name in names if name is not None))


def _operators(report: LatencyReport, component: str, variant: str | None) -> list[Series]:
    """The series of operators, the most time first."""
    found = [s for s in report.series if (s.component, s.variant) == (component, variant) and s.operator is not None]
    return sorted(found, key=lambda series: -series.statistics.typical()[1])


def _differences(rows: Sequence[ComparedRow]) -> list[str]:
    """What rows of a comparison are not alike in, each said once."""
    return list(dict.fromkeys(difference for row in rows for difference in row.differences))
