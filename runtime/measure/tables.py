"""What `tm-bench` shows on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tm_export.runtime.measure.compare import ComparedRow, Quoted
from tm_export.runtime.readable import in_bytes, in_milliseconds


def comparison_table(rows: Sequence[ComparedRow]) -> Group:
    """One row for each variant of each report, and below them notes on what the figures are.

    Notes name device, engine and label, and how these differ from the first row's; equal notes are given once. They
    stand below the table, where a narrow terminal wraps them and cuts nothing off.
    """
    notes = list(dict.fromkeys(_note(row) for row in rows))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("report", "component / variant"):
        table.add_column(column, overflow="fold")
    for column in ("cold load", "warm load", "run", "run p90", "÷ first", "peak memory", "note"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            Text(row.name),
            Text("/".join(filter(None, (row.component, row.variant)))),
            _time(row.cold_load),
            _time(row.warm_load),
            _time(row.run),
            in_milliseconds(row.run_p90_ms),
            _ratio(row),
            in_bytes(row.peak_bytes),
            f"[{notes.index(_note(row)) + 1}]",
        )
    lines = [Text(f"[{number}] {note}", style="yellow") for number, note in enumerate(notes, start=1)]
    return Group(table, Text(""), *lines)


def _note(row: ComparedRow) -> str:
    report = row.report
    engine = " ".join(filter(None, (report.engine.name, report.engine.version, report.engine.backend)))
    return "; ".join((f"{report.device.name}, {engine}: {report.label}", *(f"! {text}" for text in row.differences)))


def _time(quoted: Quoted | None) -> str:
    if quoted is None:
        return "-"
    time = in_milliseconds(quoted.milliseconds)
    return time if quoted.statistic == "p50" else f"{time} ({quoted.statistic})"


def _ratio(row: ComparedRow) -> str:
    if row.ratio is None:
        return "-"
    ratio = f"{row.ratio:.2f}x" if row.ratio_of == "p50" else f"{row.ratio:.2f}x ({row.ratio_of})"
    return f"{ratio} !" if row.differences else ratio
