"""Writes reports, traces and pages, each whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tm_export.runtime.measure.chrome_trace import chrome_trace
from tm_export.runtime.measure.compare import NamedReport
from tm_export.runtime.measure.html_report import render_comparison, render_report
from tm_export.runtime.measure.latency_report import REPORT_NAME, LatencyReport, report_json
from tm_export.runtime.measure.recording import Recording

TRACE_NAME = "trace.json"
PAGE_NAME = "report.html"
COMPARISON_NAME = "comparison.html"


def save_report(folder: Path, report: LatencyReport, recordings: Sequence[Recording] = ()) -> tuple[Path, ...]:
    """Writes `latency_report.json` and `report.html`, and of recordings `trace.json`; returns their paths."""
    written = [_write(folder / REPORT_NAME, report_json(report))]
    if recordings:
        written.append(_write(folder / TRACE_NAME, chrome_trace(report, recordings)))
    written.append(_write(folder / PAGE_NAME, render_report(report, recordings).encode()))
    return tuple(written)


def save_comparison(folder: Path, reports: Sequence[NamedReport]) -> Path:
    """Writes `comparison.html`; returns its path."""
    return _write(folder / COMPARISON_NAME, render_comparison(reports).encode())


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(content)
    return temporary.replace(path)
