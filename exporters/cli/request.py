"""What a command line of `tm-export` asks for.

Only what parsing needs is imported, so that `--help` answers at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from tm_export.exporters.errors import UsageError
from tm_export.exporters.options import (
    Backend,
    Effort,
    ExportOptions,
    Extent,
    MergeLowering,
    Precision,
    parse_block_budgets,
    parse_capacities,
)
from tm_export.models.spec.model_size import ModelSize
from tm_export.runtime.cli.options import HELP_OPTIONS
from tm_export.runtime.cli.version import Version

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
    quiet: bool
    verbose: bool
    as_json: bool
    debug: bool


app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False)

_WHAT, _HOW, _ELSE = "What to export", "How", "What to do instead, and what to print"


@app.command(help=HELP, context_settings=HELP_OPTIONS)
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
    capacity: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[FILE.py:LINE=]N",
            help="Give a selection by a mask, x[mask], room for at most N tokens; may be repeated.",
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
        typer.Option(
            "--dry-run", help="Show merge sites, files and what would be refused; write nothing.", rich_help_panel=_ELSE
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Print nothing but errors.", rich_help_panel=_ELSE)
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "-v", "--verbose", help="Print every file and every comparison, the worst first.", rich_help_panel=_ELSE
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, nothing else.", rich_help_panel=_ELSE)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=_ELSE)
    ] = False,
    version: Version = False,
) -> Request:
    budget, component_budgets = parse_block_budgets(block_budget or ())
    capacities = parse_capacities(capacity or ())
    return Request(
        model=model,
        components=tuple(dict.fromkeys(component or ())),
        targets=tuple(dict.fromkeys(target or ())),
        out=out,
        options=ExportOptions(precision, backend, merge_lowering, seed, budget, weights, component_budgets, capacities),
        effort=Effort(jobs, verify, resume),
        checkpoint=checkpoint,
        size=ModelSize(frames, None if frame_size is None else _pixels(frame_size), max_tokens),
        force=force,
        max_regions=max_regions,
        lists=lists,
        dry_run=dry_run,
        quiet=quiet,
        verbose=verbose,
        as_json=as_json,
        debug=debug,
    )


def _pixels(frame_size: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,6})[x×](\d{1,6})", frame_size)  # noqa: RUF001
    if found is None:
        raise UsageError(f"--frame-size {frame_size!r} is no size: give height and width in pixels, such as 192x192")
    return int(found[1]), int(found[2])
