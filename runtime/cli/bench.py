"""`tm-bench`: the command line that measures bundles and compares reports.

Only what parsing needs is imported above the functions, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tm_export.runtime.cli.console import Complaints, exceeded_message, refuse_more_than_the_machine_has
from tm_export.runtime.cli.options import HELP_OPTIONS, budget_of
from tm_export.runtime.cli.version import Version
from tm_export.runtime.errors import BUDGET, INTERRUPTED, OK, USAGE, UserError
from tm_export.runtime.heap import restart_with_huge_pages
from tm_export.runtime.measure.options import BenchOptions
from tm_export.runtime.measure.report_terms import Build, DeviceKind, ImportFormat

if TYPE_CHECKING:
    from tm_export.runtime.measure.compare import ComparedRow, NamedReport, Quoted
    from tm_export.runtime.measure.latency_report import LatencyReport

_MANIFEST: Final = "manifest.json"
_REPORT: Final = "latency_report.json"

HELP: Final = """Measure bundles: cold and warm loads, runs of each block and end to end, memory, bytes read.

Writes latency_report.json, trace.json (for ui.perfetto.dev) and report.html. Of several bundles or reports it makes
one table, here and in comparison.html. Every figure is labelled: a desktop's is not a phone's.

[bold]Examples[/bold]

tm-bench out/ondevice-sora-tiny-onnx

tm-bench out/ondevice-sora-tiny-onnx --component denoiser --memory-budget 1.2GB --runs 50

tm-bench out/ondevice-sora-tiny-onnx out/ondevice-sora-tiny-executorch phone/latency_report.json

tm-bench --import benchmark_results.json --from executorch --device-kind phone --build release

[bold]Exit codes[/bold]

0 good · 2 usage · 3 an engine refused · 5 the memory budget is too small · 130 interrupted · 1 a defect
"""


@dataclass(frozen=True)
class ImportRequest:
    """A report from elsewhere, and what its file does not say."""

    path: Path
    format: ImportFormat
    device: str | None
    device_kind: DeviceKind
    build: Build
    warmup: int


@dataclass(frozen=True)
class Request:
    """A parsed command line."""

    sources: tuple[Path, ...]
    component: str | None
    variant: str | None
    options: BenchOptions
    imported: ImportRequest | None
    out: Path
    as_json: bool
    debug: bool


_app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False)

_WHAT, _HOW, _IMPORT, _PRINT = "What to measure", "How", "Reports from elsewhere", "Where to write, what to print"


@_app.command(help=HELP, context_settings=HELP_OPTIONS)
def _parse(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="BUNDLE|REPORT", help="Bundles to measure; latency reports to compare with."),
    ] = None,
    component: Annotated[str | None, typer.Option(help="Only this component.", rich_help_panel=_WHAT)] = None,
    variant: Annotated[
        str | None, typer.Option(help="Only this variant, such as full or merged.", rich_help_panel=_WHAT)
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs to measure.", rich_help_panel=_HOW)] = BenchOptions.runs,
    warmup: Annotated[
        int | None,
        typer.Option(
            min=0,
            help=f"Runs before them to leave out (default: {BenchOptions.warmup}; of an imported file 0).",
            rich_help_panel=_HOW,
        ),
    ] = None,
    loads: Annotated[
        int, typer.Option(min=0, help="Cold loads, and as many warm ones.", rich_help_panel=_HOW)
    ] = BenchOptions.loads,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of the engine; its own choice if left out.", rich_help_panel=_HOW)
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="The engine, where a target has several.", rich_help_panel=_HOW)
    ] = None,
    prefetch_depth: Annotated[
        int, typer.Option(min=0, help="Calls ahead that blocks are loaded.", rich_help_panel=_HOW)
    ] = BenchOptions.prefetch_depth,
    memory_budget: Annotated[
        str,
        typer.Option(metavar="SIZE", help="What the process may hold, such as 1.2GB.", rich_help_panel=_HOW),
    ] = "none",
    import_file: Annotated[
        Path | None,
        typer.Option("--import", metavar="FILE", help="A report of another tool.", rich_help_panel=_IMPORT),
    ] = None,
    import_format: Annotated[
        ImportFormat | None,
        typer.Option(
            "--from",
            help="ExecuTorch's Android benchmark app, ONNX Runtime's profile, xcodebuild test's log, perf.yaml.",
            rich_help_panel=_IMPORT,
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="The device, where the file does not name it.", rich_help_panel=_IMPORT)
    ] = None,
    device_kind: Annotated[
        DeviceKind, typer.Option(help="What it is, where the file does not say.", rich_help_panel=_IMPORT)
    ] = "unknown",
    build: Annotated[
        Build, typer.Option(help="The build that was measured, where the file does not say.", rich_help_panel=_IMPORT)
    ] = "unknown",
    out: Annotated[Path, typer.Option("-o", "--out", help="Where to write.", rich_help_panel=_PRINT)] = Path("bench"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, nothing else.", rich_help_panel=_PRINT)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=_PRINT)
    ] = False,
    version: Version = False,
) -> Request:
    imported = None
    if import_file is not None and import_format is not None:
        imported = ImportRequest(import_file, import_format, device, device_kind, build, warmup or 0)
    elif import_file is not None or import_format is not None:
        raise typer.BadParameter("--import FILE and --from FORMAT belong together: give both")
    if imported is not None and sources:
        raise typer.BadParameter("--import takes one file: import first, then compare the reports that it writes")
    if imported is None and not sources:
        raise typer.BadParameter("nothing to measure: name a bundle, or --import FILE --from FORMAT")
    return Request(
        sources=tuple(sources or ()),
        component=component,
        variant=variant,
        options=BenchOptions(
            runs=runs,
            warmup=BenchOptions.warmup if warmup is None else warmup,
            loads=loads,
            engine=engine,
            threads=threads,
            memory_budget=budget_of(memory_budget),
            prefetch_depth=prefetch_depth,
        ),
        imported=imported,
        out=out,
        as_json=as_json,
        debug=debug,
    )


def main(argv: list[str] | None = None) -> int:
    """Run `tm-bench` with these arguments (the process's own by default); returns its exit code."""
    if argv is None:
        restart_with_huge_pages()
    try:
        request = _app(argv, prog_name="tm-bench", standalone_mode=False)
    except typer.TyperException as error:
        Complaints("tm-bench").say(f"{error.format_message()} (see tm-bench --help)")
        return USAGE
    if not isinstance(request, Request):  # --help has been answered
        return OK
    complaints = Complaints("tm-bench", request.as_json, request.debug)
    try:
        answer = _answer(request)
    except KeyboardInterrupt:
        return complaints.fail("interrupted; what was finished is in the output folder", INTERRUPTED)
    except OSError as error:
        return complaints.fail(f"{error.filename or 'a file'}: {error.strerror or error}", USAGE)
    except UserError as error:
        return complaints.fail(str(error), error.exit_code)
    except Exception as error:
        return complaints.defect(error, "tm-bench")
    code, complaint = (BUDGET, answer["error"]) if "error" in answer else (OK, "")
    if complaint:
        complaints.say(complaint)
    if request.as_json:
        print(json.dumps({"exit_code": code, **answer}, indent=2))
    return code


def _answer(request: Request) -> Mapping[str, Any]:
    """Do what is asked; returns what `--json` prints."""
    from tm_export.runtime.measure.compare import NamedReport, compare
    from tm_export.runtime.measure.save import save_comparison

    refuse_more_than_the_machine_has(request.options.memory_budget)
    saved: list[Path] = []
    if request.imported is not None:
        reports = _import(request, request.imported, saved)
    else:
        names = _unique(_name(source) for source in request.sources)
        reports = [
            NamedReport(name, _report(request, source, name, saved))
            for name, source in zip(names, request.sources, strict=True)
        ]
    if len(reports) > 1:
        saved.append(save_comparison(request.out, reports))
    rows = compare(reports)
    _show(request, rows, saved)
    exceeded = _exceeded(request, rows)
    return {
        "files": [str(path) for path in saved],
        "reports": [{"name": named.name, **named.report.model_dump(mode="json")} for named in reports],
        "comparison": [_row(row) for row in rows],
        **({"error": exceeded} if exceeded else {}),
    }


def _exceeded(request: Request, rows: Sequence[ComparedRow]) -> str:
    """What to say if a process held more than the budget of this request; nothing if none did."""
    budget = request.options.memory_budget
    for row in rows:
        peak = row.peak_bytes or 0
        if budget is not None and row.report.memory_budget_bytes == budget and peak > budget:
            return exceeded_message(f"{row.name}: {row.component}/{row.variant}", peak, budget)
    return ""


def _report(request: Request, source: Path, name: str, saved: list[Path]) -> LatencyReport:
    """A bundle's report, measured now and saved, or one that was saved before."""
    from tm_export.runtime.measure.bundle_report import bench_bundle
    from tm_export.runtime.measure.latency_report import read_report
    from tm_export.runtime.measure.save import save_report

    folder = request.out if len(request.sources) == 1 else request.out / name
    if (source / _MANIFEST).exists() or (source.is_dir() and not (source / _REPORT).exists()):
        measured = bench_bundle(source, request.component, request.variant, request.options, _teller(request))
        saved += save_report(folder, measured.report, measured.recordings)
        return measured.report
    report = read_report(source / _REPORT if source.is_dir() else source)
    if len(request.sources) == 1:
        saved += save_report(folder, report)
    return report


def _import(request: Request, wanted: ImportRequest, saved: list[Path]) -> list[NamedReport]:
    from tm_export.runtime.measure.compare import NamedReport
    from tm_export.runtime.measure.importers import Stated, import_reports
    from tm_export.runtime.measure.save import save_report

    stated = Stated(wanted.device, wanted.device_kind, wanted.build, wanted.warmup)
    reports = import_reports(wanted.path, wanted.format, stated)
    if len(reports) == 1:
        saved += save_report(request.out, reports[0])
        return [NamedReport(reports[0].model, reports[0])]
    named = [
        NamedReport(name, report) for name, report in zip(_unique(map(_imported_name, reports)), reports, strict=True)
    ]
    for entry in named:
        saved += save_report(request.out / entry.name, entry.report)
    return named


def _imported_name(report: LatencyReport) -> str:
    """A name that is also a folder's: what tells the reports of one file apart."""
    parts = (report.model, report.device.name, report.engine.name, report.engine.backend, report.precision)
    text = "-".join(filter(None, parts))
    return "".join(letter if letter.isalnum() or letter in "+._-" else "_" for letter in text)


def _name(source: Path) -> str:
    """A bundle by its folder, a report by the folder that it lies in."""
    resolved = source.resolve()
    return resolved.parent.name if resolved.name == _REPORT else resolved.stem if resolved.is_file() else resolved.name


def _unique(names: Iterator[str] | map[str]) -> list[str]:
    """The names, numbered where one comes again."""
    counts: dict[str, int] = {}
    unique = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        unique.append(name if counts[name] == 1 else f"{name}-{counts[name]}")
    return unique


def _teller(request: Request) -> Any:
    return (lambda message: None) if request.as_json else (lambda message: print(message, file=sys.stderr, flush=True))


def _show(request: Request, rows: Sequence[ComparedRow], saved: Sequence[Path]) -> None:
    """Print the table for a person; where that is no terminal, in lines of any length."""
    if request.as_json:
        return
    from rich.console import Console

    from tm_export.runtime.measure.tables import comparison_table

    console = Console(width=None if sys.stdout.isatty() else 240, soft_wrap=True, highlight=False, markup=False)
    console.print(comparison_table(rows))
    console.print()
    for path in saved[:6]:
        console.print(f"wrote {path}")
    if len(saved) > 6:
        console.print(f"and {len(saved) - 6} more in {request.out}")


def _row(row: ComparedRow) -> Mapping[str, Any]:
    return {
        "name": row.name,
        "label": row.report.label,
        "component": row.component,
        "variant": row.variant,
        "cold_load": _quoted(row.cold_load),
        "warm_load": _quoted(row.warm_load),
        "run": _quoted(row.run),
        "run_p90_ms": row.run_p90_ms,
        "peak_bytes": row.peak_bytes,
        "ratio": row.ratio,
        "ratio_of": row.ratio_of,
        "differences": row.differences,
    }


def _quoted(value: Quoted | None) -> Mapping[str, Any] | None:
    return None if value is None else {"statistic": value.statistic, "ms": value.milliseconds}


if __name__ == "__main__":
    sys.exit(main())
