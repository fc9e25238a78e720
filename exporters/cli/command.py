"""`tm-export`: the command line of the compiler.

Only what parsing needs is imported above the functions, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any, Final

import typer

from tm_export.exporters.cli.request import Request, app
from tm_export.exporters.errors import ExitCode, ExportError, UsageError
from tm_export.exporters.record.collecting import collect_seldom
from tm_export.runtime.cli.console import Complaints, defect_of, without_warnings
from tm_export.runtime.errors import DEFECT, INTERRUPTED

if TYPE_CHECKING:
    from tm_export.exporters.bundle.bundle import Bundle
    from tm_export.exporters.record.progress import Progress
    from tm_export.exporters.source.model_source import ModelSource

CULPRIT: Final = "tm-export or in a converter"
"""Where an error that nobody foresaw is looked for."""


def main(argv: list[str] | None = None) -> int:
    """Run `tm-export` with these arguments (the process's own by default); returns its exit code."""
    try:
        request = app(argv, prog_name="tm-export", standalone_mode=False)
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
    collect_seldom()
    try:
        with _quiet(request):
            answer = _answer(request)
    except KeyboardInterrupt:
        return complaints.fail("interrupted; the same command goes on from here", INTERRUPTED)
    except ExportError as error:
        return complaints.fail(str(error), error.exit_code)
    except Exception as error:
        return complaints.defect(error, CULPRIT)
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

    from tm_export.exporters.source.named import source_of
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
    from tm_export.exporters.bundle.bundle import bundle_path
    from tm_export.exporters.bundle.staging import refuse_foreign_folder
    from tm_export.exporters.convert.worker import warm_up
    from tm_export.exporters.targets.base import find_target

    for target in request.targets:
        refuse_foreign_folder(bundle_path(request.out, source.name, target), force=request.force)

    warm_up(map(find_target, request.targets))

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
            failures.append(_failure(target, error.exit_code, str(error)))
        except Exception as error:
            if request.debug:
                traceback.print_exc()
            failures.append(_failure(target, DEFECT, defect_of(error, CULPRIT)))
    return {what: done, **({"failures": failures} if failures else {})}


def _failure(target: str, code: int, message: str) -> dict[str, Any]:
    return {"target": target, "exit_code": int(code), "error": f"{target}: {message}"}


def _told(bundle: Bundle, request: Request) -> Mapping[str, Any]:
    """Print what became of one export; returns the same for `--json`."""
    from tm_export.exporters.cli.tables import files_table, parity_table, worst_of
    from tm_export.exporters.record.units import in_bytes, in_seconds
    from tm_export.exporters.report.files import peak_rss_bytes

    report = bundle.report()
    size = sum(file.bytes for file in bundle.manifest.files)
    if request.verbose:
        files = files_table((file.path, file.bytes) for file in bundle.manifest.files)
        _show(request, files, "", parity_table(report.parity), "")
    _show(
        request,
        f"the worst of {len(report.parity)} comparisons with PyTorch: {worst_of(report.parity)}",
        f"{bundle.path}: {in_bytes(size)}, verified, in {in_seconds(report.total_seconds)}, "
        f"peak RSS {in_bytes(peak_rss_bytes(report))}",
        f"next: tm-run {bundle.path}, or open {bundle.path}/reports/index.html",
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
    from tm_export.exporters.bundle.bundle import bundle_path
    from tm_export.exporters.cli.tables import blocks_table, merges_table
    from tm_export.exporters.compile import plan
    from tm_export.exporters.partition.names import block_name
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
    from tm_export.exporters.cli.tables import models_table, targets_table
    from tm_export.exporters.targets.base import target_names
    from tm_export.models.spec.registry import BrokenModelPlugin, list_models

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
    from tm_export.exporters.record.progress import SilentProgress, progress_on

    return SilentProgress() if request.as_json or request.quiet else progress_on(sys.stderr)


def _show(request: Request, *parts: object) -> None:
    """Print to stdout for a person; where that is no terminal, in lines of any length."""
    if request.as_json or request.quiet:
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
