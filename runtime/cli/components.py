"""`tm-run BUNDLE`: run components, compare with golden outputs, and print."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tm_export.runtime.cli.console import Complaints, held_too_much
from tm_export.runtime.cli.options import (
    AsJson,
    BundleFolder,
    Debug,
    EngineName,
    MemoryBudget,
    PrefetchDepth,
    Request,
    Running,
    Threads,
    VerifyFiles,
    budget_of,
)
from tm_export.runtime.errors import DIFFERENT, UsageError

if TYPE_CHECKING:
    from tm_export.runtime.loading.machinery import Machinery
    from tm_export.runtime.manifest import Manifest
    from tm_export.runtime.run.run_bundle import Outcome, Ran, Task


@dataclass(frozen=True)
class Chosen:
    """Variants of components to run; the names are those of the options."""

    component: str | None
    variant: str | None
    inputs: Path | None
    repeat: int


_WHAT: Final = "What to run"

HELP: Final = """Run components, by default on their golden inputs, and compare with the golden outputs.

[bold]Examples[/bold]

tm-run out/ondevice-sora-tiny-onnx

tm-run out/ondevice-sora-onnx --component denoiser --variant merged --memory-budget 1.2GB --repeat 30

tm-run out/my_model-executorch --inputs tokens.safetensors --out result.safetensors
"""


def parse(
    bundle: BundleFolder,
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
        Path | None, typer.Option("-o", "--out", help="Write outputs here as safetensors.", rich_help_panel=_WHAT)
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Runs of each variant.", rich_help_panel=_WHAT)] = 1,
    memory_budget: MemoryBudget = "none",
    prefetch_depth: PrefetchDepth = 1,
    threads: Threads = None,
    engine: EngineName = None,
    verify_files: VerifyFiles = True,
    as_json: AsJson = False,
    debug: Debug = False,
) -> Request:
    """What this command line asks for."""
    running = Running(bundle, budget_of(memory_budget), prefetch_depth, threads, engine, verify_files, as_json, debug)
    chosen = Chosen(component=component, variant=variant, inputs=inputs, repeat=repeat)
    return Request(running, partial(run_chosen, chosen, out))


def run_chosen(chosen: Chosen, out: Path | None, machinery: Machinery, complaints: Complaints) -> int:
    """Runs, compares and prints; returns the exit code."""
    outcome = _run(chosen, machinery, out)
    code, complaint = _verdict(outcome, machinery.memory_budget)
    return complaints.conclude(code, complaint, _as_json(outcome), lambda: _print(outcome))


def _run(chosen: Chosen, machinery: Machinery, out: Path | None) -> Outcome:
    from tm_export.runtime.run.run_bundle import run_tasks
    from tm_export.runtime.run.tensor_files import write_tensors

    tasks = _tasks(chosen, machinery.bundle_dir, machinery.manifest)
    if out is not None and len(tasks) > 1:
        names = ", ".join(f"{task.component} ({task.variant})" for task in tasks)
        raise UsageError(f"--out takes the outputs of one variant, this runs {names}: add --component and --variant")
    outcome = run_tasks(machinery, tasks, chosen.repeat)
    if out is not None:
        write_tensors(out, outcome.ran[0].outputs)
    return outcome


def _tasks(chosen: Chosen, bundle_dir: Path, manifest: Manifest) -> tuple[Task, ...]:
    from tm_export.runtime.run.run_bundle import golden_tasks, task_of_inputs
    from tm_export.runtime.run.tensor_files import read_tensors

    if chosen.inputs is None:
        return golden_tasks(bundle_dir, manifest, chosen.component, chosen.variant)
    return (task_of_inputs(manifest, chosen.component, chosen.variant, read_tensors(chosen.inputs)),)


def _verdict(outcome: Outcome, memory_budget: int | None) -> tuple[int, str]:
    from tm_export.runtime.run.golden_check import MIN_PSNR_DB

    different = [(ran.task, found) for ran in outcome.ran for found in ran.differences if not found.passed]
    if different:
        task, found = different[0]
        return DIFFERENT, (
            f"output {found.output!r} of {task.component!r} ({task.variant}) differs from the golden one: "
            f"largest error {found.max_abs_error:.3g}, {_psnr(found.psnr_db)}, at least {MIN_PSNR_DB:.0f} dB are "
            "needed; export again on this machine, or see reports/parity.json for what was measured there"
        )
    return held_too_much(outcome.peak_rss_bytes, memory_budget)


def _print(outcome: Outcome) -> None:
    from tm_export.runtime.readable import in_bytes

    for ran in outcome.ran:
        _print_run(ran)
    print(f"peak RSS {in_bytes(outcome.peak_rss_bytes)}")


def _print_run(ran: Ran) -> None:
    from tm_export.runtime.readable import in_milliseconds

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
