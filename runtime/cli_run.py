"""`tm-run`: the command line that runs a bundle.

Only what parsing needs is imported above the functions, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tm_export.runtime.console import (
    BUDGET,
    DIFFERENT,
    INTERRUPTED,
    OK,
    REFUSED,
    USAGE,
    Complaints,
    UsageError,
    exceeded_message,
    refuse_more_than_the_machine_has,
    without_warnings,
)
from tm_export.runtime.units import SizeError, parse_budget

if TYPE_CHECKING:
    from tm_export.runtime.manifest import Manifest
    from tm_export.runtime.run_bundle import Outcome, Ran, Task

HELP: Final = """Run a bundle's components, by default on the golden inputs, and compare with the golden outputs.

Blocks are opened, prefetched and closed so that the whole process stays within --memory-budget.

[bold]Examples[/bold]

tm-run out/ondevice-sora-tiny-onnx

tm-run out/ondevice-sora-onnx --component denoiser --variant merged --memory-budget 1.2GB --repeat 30

tm-run out/my_model-executorch --inputs tokens.safetensors --out result.safetensors

[bold]Exit codes[/bold]

0 good · 2 usage · 3 an engine refused · 4 outputs differ from the golden ones · 5 the memory budget is too small ·
130 interrupted · 1 a defect
"""


@dataclass(frozen=True)
class Request:
    """A parsed command line."""

    bundle: Path
    component: str | None
    variant: str | None
    inputs: Path | None
    out: Path | None
    memory_budget: int | None
    prefetch_depth: int
    repeat: int
    threads: int | None
    engine: str | None
    proves_files: bool
    as_json: bool
    debug: bool


_app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

_WHAT, _HOW, _PRINT = "What to run", "How", "What to check and print"


@_app.command(help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
def _parse(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="A folder that tm-export wrote.", show_default=False)
    ],
    component: Annotated[
        str | None, typer.Option(help="One component; default: all that have golden inputs.", rich_help_panel=_WHAT)
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="One variant, such as full or merged; default: all.", rich_help_panel=_WHAT)
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(help="A safetensors file with an array for each input; default: golden.", rich_help_panel=_WHAT),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write the outputs here as safetensors.", rich_help_panel=_WHAT)
    ] = None,
    memory_budget: Annotated[
        str, typer.Option(help="What the process may hold, such as 1.2GB; or none.", rich_help_panel=_HOW)
    ] = "none",
    prefetch_depth: Annotated[
        int, typer.Option(min=0, help="How many calls ahead blocks are loaded.", rich_help_panel=_HOW)
    ] = 1,
    repeat: Annotated[int, typer.Option(min=1, help="Runs of each variant.", rich_help_panel=_HOW)] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of one operator; default: the engine's.", rich_help_panel=_HOW)
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="An engine of the bundle's target; default: the first.", rich_help_panel=_HOW)
    ] = None,
    verify_files: Annotated[
        bool, typer.Option(help="Prove every file by its SHA-256 before anything is opened.", rich_help_panel=_PRINT)
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, nothing else.", rich_help_panel=_PRINT)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=_PRINT)
    ] = False,
) -> Request:
    try:
        budget = parse_budget(memory_budget)
    except SizeError as error:
        raise typer.BadParameter(f"--memory-budget: {error}") from None
    return Request(
        bundle=bundle,
        component=component,
        variant=variant,
        inputs=inputs,
        out=out,
        memory_budget=budget,
        prefetch_depth=prefetch_depth,
        repeat=repeat,
        threads=threads,
        engine=engine,
        proves_files=verify_files,
        as_json=as_json,
        debug=debug,
    )


def main(argv: list[str] | None = None) -> int:
    """Run `tm-run` with these arguments (the process's own by default); returns its exit code."""
    try:
        request = _app(argv, prog_name="tm-run", standalone_mode=False)
    except typer.TyperException as error:
        Complaints("tm-run").say(f"{error.format_message()} (see tm-run --help)")
        return USAGE
    if not isinstance(request, Request):  # --help has been answered
        return OK
    complaints = Complaints("tm-run", request.as_json, request.debug)
    try:
        with without_warnings(shown=request.debug):
            outcome = _run(request)
    except KeyboardInterrupt:
        return complaints.fail("interrupted; every block is closed", INTERRUPTED)
    except Exception as error:
        code = _code_of(error)
        return complaints.defect(error, "tm-run") if code is None else complaints.fail(str(error), code)
    return _report(request, outcome, complaints)


def _code_of(error: Exception) -> int | None:
    """The exit code for an error that is told as it is."""
    from tm_export.runtime.engines.base import EngineError
    from tm_export.runtime.loading.policy import BudgetTooSmall
    from tm_export.runtime.manifest import BundleError
    from tm_export.runtime.run_bundle import RequestError
    from tm_export.runtime.tensor_files import TensorFileError

    if isinstance(error, UsageError | BundleError | RequestError | TensorFileError):
        return USAGE
    if isinstance(error, EngineError):
        return REFUSED
    return BUDGET if isinstance(error, BudgetTooSmall) else None


def _run(request: Request) -> Outcome:
    from tm_export.runtime.engines import EngineError, choose_engine
    from tm_export.runtime.manifest import read_manifest, verify_files
    from tm_export.runtime.run_bundle import run_tasks
    from tm_export.runtime.tensor_files import write_tensors

    refuse_more_than_the_machine_has(request.memory_budget)
    manifest = read_manifest(request.bundle)
    if request.proves_files:
        verify_files(request.bundle, manifest)
    tasks = _tasks(request, manifest)
    if request.out is not None and len(tasks) > 1:
        names = ", ".join(f"{task.component} ({task.variant})" for task in tasks)
        raise UsageError(f"--out takes the outputs of one variant, this runs {names}: add --component and --variant")
    try:
        engine = choose_engine(manifest.target, request.engine, request.threads)
    except EngineError as error:
        raise UsageError(str(error)) from error
    outcome = run_tasks(
        request.bundle,
        manifest,
        engine,
        tasks,
        memory_budget=request.memory_budget,
        prefetch_depth=request.prefetch_depth,
        repeat=request.repeat,
    )
    if request.out is not None:
        write_tensors(request.out, outcome.ran[0].outputs)
    return outcome


def _tasks(request: Request, manifest: Manifest) -> tuple[Task, ...]:
    from tm_export.runtime.run_bundle import golden_tasks, task_of_inputs
    from tm_export.runtime.tensor_files import read_tensors

    if request.inputs is None:
        return golden_tasks(request.bundle, manifest, request.component, request.variant)
    return (task_of_inputs(manifest, request.component, request.variant, read_tensors(request.inputs)),)


def _report(request: Request, outcome: Outcome, complaints: Complaints) -> int:
    """Print what became of the runs; returns the exit code."""
    from tm_export.runtime.measure.readable import in_bytes

    code, complaint = _verdict(request, outcome)
    if request.as_json:
        print(
            json.dumps({"exit_code": code, **_as_json(outcome)} | ({"error": complaint} if complaint else {}), indent=2)
        )
    else:
        for ran in outcome.ran:
            _print_run(ran)
        print(f"peak RSS {in_bytes(outcome.peak_rss_bytes)}")
    if complaint:
        complaints.say(complaint)
    return code


def _verdict(request: Request, outcome: Outcome) -> tuple[int, str]:
    from tm_export.runtime.golden_check import MIN_PSNR_DB

    different = [(ran.task, found) for ran in outcome.ran for found in ran.differences if not found.passed]
    if different:
        task, found = different[0]
        return DIFFERENT, (
            f"output {found.output!r} of {task.component!r} ({task.variant}) differs from the golden one: "
            f"largest error {found.max_abs_error:.3g}, {_psnr(found.psnr_db)}, at least {MIN_PSNR_DB:.0f} dB are "
            "needed; export again on this machine, or see reports/parity.json for what was measured there"
        )
    if request.memory_budget is not None and outcome.peak_rss_bytes > request.memory_budget:
        return BUDGET, exceeded_message("the process", outcome.peak_rss_bytes, request.memory_budget)
    return OK, ""


def _print_run(ran: Ran) -> None:
    from tm_export.runtime.measure.readable import in_milliseconds

    times = f"{in_milliseconds(ran.seconds[0] * 1e3)}"
    if len(ran.seconds) > 1:
        times = f"first {times}, median {in_milliseconds(statistics.median(ran.seconds) * 1e3)} of {len(ran.seconds)}"
    print(f"{ran.task.component} ({ran.task.variant}): {times}, loads included")
    for spec, array in ran.outputs.items():
        print(f"  {spec}: {array.dtype}{list(array.shape)}")
    for found in ran.differences:
        verdict = "same as golden" if found.passed else "DIFFERS from golden"
        print(f"  {found.output}: {verdict}: largest error {found.max_abs_error:.3g}, {_psnr(found.psnr_db)}")


def _psnr(psnr_db: float) -> str:
    if psnr_db == math.inf:
        return "equal"
    return "no PSNR" if psnr_db == -math.inf else f"PSNR {psnr_db:.1f} dB"


def _as_json(outcome: Outcome) -> Mapping[str, Any]:
    return {
        "peak_rss_bytes": outcome.peak_rss_bytes,
        "runs": [
            {
                "component": ran.task.component,
                "variant": ran.task.variant,
                "seconds": list(ran.seconds),
                "outputs": {name: f"{array.dtype}{list(array.shape)}" for name, array in ran.outputs.items()},
                "golden": [
                    {
                        "output": found.output,
                        "max_abs_error": _finite(found.max_abs_error),
                        "psnr_db": _finite(found.psnr_db),
                        "passed": found.passed,
                    }
                    for found in ran.differences
                ],
            }
            for ran in outcome.ran
        ],
    }


def _finite(value: float) -> float | None:
    """JSON knows no infinity."""
    return value if math.isfinite(value) else None


if __name__ == "__main__":
    sys.exit(main())
