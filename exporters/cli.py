"""`tm-export`: the command line of the compiler.

Only what parsing needs is imported above the functions, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tm_export.exporters.errors import ExitCode, ExportError, UsageError
from tm_export.exporters.options import (
    Backend,
    Effort,
    ExportOptions,
    Extent,
    MergeLowering,
    Precision,
    parse_block_budgets,
)
from tm_export.models.model_size import ModelSize
from tm_export.runtime.console import Complaints, without_warnings
from tm_export.runtime.errors import INTERRUPTED

if TYPE_CHECKING:
    from tm_export.exporters.bundle import Bundle
    from tm_export.exporters.progress import Progress
    from tm_export.exporters.sources import ModelSource

DEFAULT_MODEL: Final = "ondevice-sora-tiny"

HELP: Final = """Compile a PyTorch model that merges tokens to Core ML, ONNX or ExecuTorch.

Every artifact is run and compared with PyTorch before it is called good.

[bold]Examples[/bold]

tm-export --target coreml

tm-export -m my_model.py:build --target onnx --target executorch -o out

tm-export -m tinychart-3b --checkpoint DIR --target coreml --dry-run

build() returns (module, example_inputs): an nn.Module and a tensor, or a tuple or dict of them.

[bold]Exit codes[/bold]

0 good · 2 usage · 3 conversion refused · 4 parity failed · 5 a budget failed · 130 interrupted · 1 a defect
"""


@dataclass(frozen=True)
class Request:
    """A parsed command line."""

    model: str
    components: tuple[str, ...]
    targets: tuple[str, ...]
    out: Path
    options: ExportOptions
    effort: Effort
    checkpoint: Path | None
    size: ModelSize
    force: bool
    max_regions: int | None
    lists: bool
    dry_run: bool
    as_json: bool
    debug: bool


_app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

_WHAT, _HOW, _ELSE = "What to export", "How", "What to do instead, and what to print"


@_app.command(help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
def _parse(
    model: Annotated[
        str, typer.Option("-m", "--model", help="A name in --list, or FILE.py:FUNC.", rich_help_panel=_WHAT)
    ] = DEFAULT_MODEL,
    target: Annotated[
        list[str] | None,
        typer.Option(help="coreml, onnx or executorch; may be repeated.", rich_help_panel=_WHAT),
    ] = None,
    component: Annotated[
        list[str] | None,
        typer.Option(help="Export this component alone; may be repeated.", rich_help_panel=_WHAT),
    ] = None,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Bundles go to OUT/MODEL-TARGET/.", rich_help_panel=_WHAT)
    ] = Path("out"),
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Weights of a listed model: a file or a folder.", rich_help_panel=_WHAT),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(help="Of videos that the model makes, such as 17, 34, 51 or 68.", rich_help_panel=_WHAT),
    ] = None,
    frame_size: Annotated[
        str | None,
        typer.Option(metavar="HEIGHTxWIDTH", help="Of such videos, such as 192x192.", rich_help_panel=_WHAT),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Of picture, prompt and answer, for a model that answers questions.", rich_help_panel=_WHAT),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(help="Core ML's default is fp16, others' fp32.", rich_help_panel=_HOW),
    ] = None,
    weights: Annotated[
        Precision | None,
        typer.Option(help="What weights are stored in: fp16 halves them under fp32, too.", rich_help_panel=_HOW),
    ] = None,
    backend: Annotated[Backend, typer.Option(help="ExecuTorch's delegate.", rich_help_panel=_HOW)] = "xnnpack",
    merge_lowering: Annotated[
        MergeLowering,
        typer.Option(help="The form of merges; auto is the cheapest at each site.", rich_help_panel=_HOW),
    ] = "auto",
    seed: Annotated[
        int,
        typer.Option(help="For random choices inside the model, and example inputs.", rich_help_panel=_HOW),
    ] = 0,
    block_budget: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[COMPONENT=]BYTES|none",
            help="Cut components into blocks of at most so many bytes of weights and activations, such as 200MB; "
            "may be repeated.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(help="Conversions that run at a time; each takes memory.", rich_help_panel=_HOW)
    ] = 1,
    verify: Annotated[
        Extent,
        typer.Option(
            help="Run all blocks, or one of each program that was converted: blocks equal but for weights follow it.",
            rich_help_panel=_HOW,
        ),
    ] = "all",
    resume: Annotated[
        bool,
        typer.Option("--resume/--no-resume", help="Go on where the same export was interrupted.", rich_help_panel=_HOW),
    ] = True,
    max_regions: Annotated[
        int | None,
        typer.Option(min=0, help="Fail if an artifact is cut into more accelerated regions.", rich_help_panel=_HOW),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a folder that is no bundle.", rich_help_panel=_HOW)
    ] = False,
    lists: Annotated[bool, typer.Option("--list", help="Show models and targets.", rich_help_panel=_ELSE)] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show merge sites and files; write nothing.", rich_help_panel=_ELSE),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, nothing else.", rich_help_panel=_ELSE)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=_ELSE)
    ] = False,
) -> Request:
    budget, component_budgets = parse_block_budgets(block_budget or ())
    return Request(
        model=model,
        components=tuple(dict.fromkeys(component or ())),
        targets=tuple(dict.fromkeys(target or ())),
        out=out,
        options=ExportOptions(precision, backend, merge_lowering, seed, budget, weights, component_budgets),
        effort=Effort(jobs, verify, resume),
        checkpoint=checkpoint,
        size=ModelSize(frames, None if frame_size is None else _pixels(frame_size), max_tokens),
        force=force,
        max_regions=max_regions,
        lists=lists,
        dry_run=dry_run,
        as_json=as_json,
        debug=debug,
    )


def _pixels(frame_size: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,6})[x×](\d{1,6})", frame_size)  # noqa: RUF001
    if found is None:
        raise UsageError(f"--frame-size {frame_size!r} is no size: give height and width in pixels, such as 192x192")
    return int(found[1]), int(found[2])


def main(argv: list[str] | None = None) -> int:
    """Run `tm-export` with these arguments (the process's own by default); returns its exit code."""
    try:
        request = _app(argv, prog_name="tm-export", standalone_mode=False)
    except UsageError as error:
        Complaints("tm-export").say(f"{error} (see tm-export --help)")
        return ExitCode.USAGE
    except typer.TyperException as error:
        Complaints("tm-export").say(f"{error.format_message()} (see tm-export --help)")
        return ExitCode.USAGE
    if not isinstance(request, Request):  # --help has been answered
        return ExitCode.OK
    return _answer_or_complain(request, Complaints("tm-export", request.as_json, request.debug))


def _answer_or_complain(request: Request, complaints: Complaints) -> int:
    try:
        with _quiet(request):
            answer = _answer(request)
    except KeyboardInterrupt:
        return complaints.fail("interrupted; the same command goes on from here", INTERRUPTED)
    except ExportError as error:
        return complaints.fail(str(error), error.exit_code)
    except Exception as error:
        return complaints.defect(error, "tm-export or in a converter")
    failures = answer.get("failures", ())
    if request.as_json:
        first = {"exit_code": failures[0]["exit_code"], "error": failures[0]["error"]} if failures else {}
        print(json.dumps({"exit_code": ExitCode.OK, **first, **answer}, indent=2))
    for failure in failures:
        complaints.say(failure["error"])
    return int(failures[0]["exit_code"]) if failures else ExitCode.OK


def _answer(request: Request) -> Mapping[str, Any]:
    """Do what is asked; returns what `--json` prints."""
    if request.lists:
        return _list(request)
    if not request.targets:
        raise UsageError("no target is given: add --target coreml, --target onnx or --target executorch")

    from tm_export.exporters.load_source import source_of
    from tm_export.exporters.targets.base import find_target

    for target in request.targets:  # before any work
        find_target(target).precision(request.options)
    source = source_of(request.model, request.options.seed, request.checkpoint, request.components, request.size)
    progress = _progress(request)
    if source.weights == "seeded":
        progress.say(f"the weights of {source.name} are seeded, not trained: it runs, but its outputs mean nothing")
    for note in source.notes:
        progress.say(note)
    return _plan(request, source, progress) if request.dry_run else _export(request, source, progress)


def _export(request: Request, source: ModelSource, progress: Progress) -> Mapping[str, Any]:
    from tm_export.exporters.api import export_source
    from tm_export.exporters.bundle import bundle_path
    from tm_export.exporters.staging import refuse_foreign_folder

    for target in request.targets:
        refuse_foreign_folder(bundle_path(request.out, source.name, target), force=request.force)

    def export(target: str) -> Mapping[str, Any]:
        progress.say(f"exporting {source.name} to {target}")
        bundle = export_source(
            source,
            target,
            request.options,
            request.out,
            effort=request.effort,
            force=request.force,
            max_regions=request.max_regions,
            progress=progress,
        )
        return _told(bundle, request)

    return _for_each_target(request, "bundles", export)


def _for_each_target(request: Request, what: str, act: Callable[[str], Mapping[str, Any]]) -> Mapping[str, Any]:
    """What became of each target; one that fails keeps none of the others from being tried.

    Raises the error itself where only one target is asked for.
    """
    if len(request.targets) == 1:
        return {what: [act(request.targets[0])]}
    done, failures = [], []
    for target in request.targets:
        try:
            done.append(act(target))
        except ExportError as error:
            failures.append({"target": target, "exit_code": int(error.exit_code), "error": f"{target}: {error}"})
    return {what: done, **({"failures": failures} if failures else {})}


def _told(bundle: Bundle, request: Request) -> Mapping[str, Any]:
    """Print what became of one export; returns the same for `--json`."""
    from tm_export.exporters.report.units import in_bytes, in_seconds
    from tm_export.exporters.report_files import peak_rss_bytes
    from tm_export.exporters.tables import files_table, parity_table

    report = bundle.report()
    size = sum(file.bytes for file in bundle.manifest.files)
    _show(
        request,
        files_table((file.path, file.bytes) for file in bundle.manifest.files),
        "",
        parity_table(report.parity),
        "",
        f"{bundle.path}: {in_bytes(size)}, verified, in {in_seconds(report.total_seconds)}, "
        f"peak RSS {in_bytes(peak_rss_bytes(report))}",
    )
    return {
        "path": str(bundle.path),
        "model": bundle.manifest.model,
        "target": bundle.manifest.target,
        "weights": bundle.manifest.weights,
        "bytes": size,
        "seconds": report.total_seconds,
        "peak_rss_bytes": peak_rss_bytes(report),
        "parity": [record.model_dump(mode="json") for record in report.parity],
    }


def _plan(request: Request, source: ModelSource, progress: Progress) -> Mapping[str, Any]:
    from tm_export.exporters.bundle import bundle_path
    from tm_export.exporters.compile import plan
    from tm_export.exporters.convert import block_name
    from tm_export.exporters.tables import blocks_table, merges_table
    from tm_export.exporters.targets.base import find_target

    def plan_for(name: str) -> Mapping[str, Any]:
        target = find_target(name)
        planned = plan(source, target, request.options, progress)
        path = bundle_path(request.out, source.name, name)
        merges = [site for _, sites in planned for site in sites]
        artifacts = [
            f"{prepared.source.name}/{target.artifact(block_name(i, len(prepared.blocks)), variant)}"
            for prepared, _ in planned
            for i in range(len(prepared.blocks))
            for variant in prepared.raised
        ]
        artifacts = list(dict.fromkeys(artifacts))
        blocks = [
            {
                "component": prepared.source.name,
                "block": block_name(i, len(prepared.blocks)),
                "weight_bytes": need.weight_bytes,
                "activation_bytes": need.activation_bytes,
                "structure": block.structure[:12],
            }
            for prepared, _ in planned
            for i, (block, need) in enumerate(zip(prepared.blocks, prepared.needs, strict=True))
        ]
        _show(request, merges_table(merges), "", blocks_table(blocks), "")
        _show(request, f"would write to {path}: {', '.join(artifacts)}")
        return {
            "path": str(path),
            "target": name,
            "artifacts": artifacts,
            "blocks": blocks,
            "merges": [site.model_dump(mode="json") for site in merges],
        }

    return _for_each_target(request, "plans", plan_for)


def _list(request: Request) -> Mapping[str, Any]:
    from tm_export.exporters.tables import models_table, targets_table
    from tm_export.exporters.targets.base import target_names
    from tm_export.models.registry import BrokenModelPlugin, list_models

    try:
        models = list_models()
    except BrokenModelPlugin as error:
        raise UsageError(str(error)) from error
    _show(request, models_table(models), "", targets_table(target_names()))
    return {
        "models": [{"name": model.name, "description": model.description} for model in models],
        "targets": target_names(),
    }


def _progress(request: Request) -> Progress:
    from tm_export.exporters.progress import SilentProgress, progress_on

    return SilentProgress() if request.as_json else progress_on(sys.stderr)


def _show(request: Request, *parts: object) -> None:
    """Print to stdout for a person; where that is no terminal, in lines of any length."""
    if request.as_json:
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 200, soft_wrap=True, highlight=False, markup=False)
    for part in parts:
        console.print(part)


@contextmanager
def _quiet(request: Request) -> Iterator[None]:
    """Keep libraries' warnings from the user, and with `--json` all that they print from stdout."""
    with without_warnings(shown=request.debug), _stdout_for_json_alone() if request.as_json else nullcontext():
        yield


@contextmanager
def _stdout_for_json_alone() -> Iterator[None]:
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)  # workers and C++ know of no `sys.stdout`
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


if __name__ == "__main__":
    sys.exit(main())
