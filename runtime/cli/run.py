"""`tm-run`: the command line that runs a bundle.

Only what parsing needs is imported above the functions, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from tm_export.runtime.cli.charts import Asked, answer_asked
from tm_export.runtime.cli.components import Chosen, run_chosen
from tm_export.runtime.cli.console import Complaints, refuse_more_than_the_machine_has, without_warnings
from tm_export.runtime.cli.videos import Schedule, VideoWish, make_prompted
from tm_export.runtime.engines.heap import restart_with_huge_pages
from tm_export.runtime.errors import INTERRUPTED, OK, USAGE, UsageError, UserError
from tm_export.runtime.units import SizeError, parse_budget

NOT_WITH_IMAGE: Final = frozenset({"component", "variant", "inputs", "repeat"})
NOT_WITH_PROMPT: Final = NOT_WITH_IMAGE | {"image"}
ONLY_DYNAMIC: Final = frozenset({"lpl_first_step", "lpl_tolerance", "lpl_patience", "lpl_plane"})
ONLY_WITH_PROMPT: Final = ONLY_DYNAMIC | {"steps", "guidance", "fps", "merge_steps", "schedule", "lpl"}
ONLY_WITH_IMAGE: Final = frozenset({"question", "questions", "answer", "temperature", "top_p", "max_new_tokens"})

HELP: Final = """Run a bundle's components, by default on the golden inputs, and compare with the golden outputs.

With --prompt, make a video of it: an mp4 file, and a contact sheet as PNG beside it. With --image, answer a question
about a chart, or many.

Blocks are opened, prefetched and closed so that the whole process stays within --memory-budget.

[bold]Examples[/bold]

tm-run out/ondevice-sora-tiny-onnx

tm-run out/ondevice-sora-onnx --component denoiser --variant merged --memory-budget 1.2GB --repeat 30

tm-run out/ondevice-sora-tiny-onnx --prompt "a red circle moves left" -o out.mp4

tm-run out/ondevice-sora-onnx --prompt "waves on a beach" --lpl 16 --merge-steps 15 --memory-budget 2GB -o out.mp4

tm-run out/tinychart-tiny-onnx --image chart.png --question "What is the sum of the two largest bars?"

tm-run out/tinychart-tiny-onnx --image charts --questions questions.csv -o answers.csv

tm-run out/my_model-executorch --inputs tokens.safetensors --out result.safetensors

[bold]Exit codes[/bold]

0 good · 2 usage · 3 an engine refused · 4 outputs differ from the golden ones · 5 the memory budget is too small ·
130 interrupted · 1 a defect
"""


@dataclass(frozen=True)
class Request:
    """A parsed command line."""

    bundle: Path
    wanted: VideoWish | Asked | Chosen
    out: Path | None
    memory_budget: int | None
    prefetch_depth: int
    threads: int | None
    engine: str | None
    proves_files: bool
    as_json: bool
    debug: bool


_app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

_WHAT, _VIDEO, _HOW, _PRINT = "What to run", "A video from a prompt", "How", "What to check and print"
_CHART = "An answer about a chart"


@_app.command(help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
def _parse(
    context: typer.Context,
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
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="Write outputs here as safetensors, a video as mp4, many answers as CSV.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the video shows.", rich_help_panel=_VIDEO)
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of a video's noise, and of what chance picks in a text.", rich_help_panel=_HOW)
    ] = 0,
    steps: Annotated[
        int | None, typer.Option(help="Of sampling; default: the bundle's.", rich_help_panel=_VIDEO)
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="How strongly the text guides; default: the bundle's.", rich_help_panel=_VIDEO),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames for each second; default: the bundle's.", rich_help_panel=_VIDEO)
    ] = None,
    merge_steps: Annotated[
        int, typer.Option(help="So many first steps are made with merged tokens.", rich_help_panel=_VIDEO)
    ] = 0,
    lpl: Annotated[
        str,
        typer.Option(
            metavar="off|N|dynamic",
            help="Leap to the end of sampling: never, after N network evaluations, or when velocities change no more.",
            rich_help_panel=_VIDEO,
        ),
    ] = "off",
    lpl_first_step: Annotated[
        int | None,
        typer.Option(
            help="Dynamic: from which step on velocities are compared; default: 14 of 30, the published code's "
            "(the paper: half of the steps).",
            rich_help_panel=_VIDEO,
        ),
    ] = None,
    lpl_tolerance: Annotated[
        float,
        typer.Option(help="Dynamic: what counts as a change; the paper: 1e-4.", rich_help_panel=_VIDEO),
    ] = 1e-3,
    lpl_patience: Annotated[
        int, typer.Option(help="Dynamic: after so many steps without a change.", rich_help_panel=_VIDEO)
    ] = 3,
    lpl_plane: Annotated[
        str,
        typer.Option(metavar="C,T", help="Dynamic: channel and latent frame compared.", rich_help_panel=_VIDEO),
    ] = "0,0",
    schedule: Annotated[
        Schedule,
        typer.Option(
            help="Of times: for the video's real number of frames, or for 51 as in the published app.",
            rich_help_panel=_VIDEO,
        ),
    ] = "real",
    image: Annotated[
        Path | None, typer.Option(help="The picture of a chart, or a folder of them.", rich_help_panel=_CHART)
    ] = None,
    question: Annotated[
        str | None, typer.Option(metavar="TEXT", help="About the picture, or about each.", rich_help_panel=_CHART)
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="CSV: image (in the folder), question, answer if known.", rich_help_panel=_CHART
        ),
    ] = None,
    answer: Annotated[
        Literal["combined", "program", "direct"],
        typer.Option(help="By a program, directly, or as the question's words suggest.", rich_help_panel=_CHART),
    ] = "combined",
    temperature: Annotated[
        float, typer.Option(min=0, max=10, help="0 always writes the likeliest token.", rich_help_panel=_CHART)
    ] = 0.0,
    top_p: Annotated[
        float,
        typer.Option(
            min=0.01, max=1, help="Above temperature 0: the likeliest tokens up to so much.", rich_help_panel=_CHART
        ),
    ] = 0.7,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Of a text; default: as many as fit.", rich_help_panel=_CHART)
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
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name != "DEFAULT"}
    if prompt is None:
        _refuse(given & ONLY_WITH_PROMPT, " is for --prompt: give that, too")
    else:
        _refuse(given & NOT_WITH_PROMPT, " does not go with --prompt")
    if image is None:
        _refuse(given & ONLY_WITH_IMAGE, " is for --image: give that, too")
    else:
        _refuse(given & NOT_WITH_IMAGE, " does not go with --image")
    if prompt is None and image is None:
        _refuse(given & {"seed"}, " is for --prompt and --image: give one of them, too")
    if lpl != "dynamic":
        _refuse(given & ONLY_DYNAMIC, f" is for --lpl dynamic, and this is --lpl {lpl}")
    wanted: VideoWish | Asked | Chosen
    if prompt is not None:
        wanted = VideoWish(
            text=prompt,
            seed=seed,
            steps=steps,
            guidance=guidance,
            fps=fps,
            merge_steps=merge_steps,
            schedule=schedule,
            lpl=lpl,
            lpl_first_step=lpl_first_step,
            lpl_tolerance=lpl_tolerance,
            lpl_patience=lpl_patience,
            lpl_plane=_plane(lpl_plane),
        )
    elif image is not None:
        wanted = Asked(
            image=image,
            question=question,
            questions=questions,
            answer=answer,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            max_new_tokens=max_new_tokens,
        )
    else:
        wanted = Chosen(component=component, variant=variant, inputs=inputs, repeat=repeat)
    return Request(
        bundle=bundle,
        wanted=wanted,
        out=out,
        memory_budget=budget,
        prefetch_depth=prefetch_depth,
        threads=threads,
        engine=engine,
        proves_files=verify_files,
        as_json=as_json,
        debug=debug,
    )


def _refuse(options: Set[str], reason: str) -> None:
    if options:
        raise typer.BadParameter(f"--{min(options).replace('_', '-')}{reason}")


def _plane(text: str) -> tuple[int, int]:
    channel, _, frame = text.partition(",")
    if not (channel.isdecimal() and frame.isdecimal()):
        raise typer.BadParameter(f"--lpl-plane {text!r} is no plane: give a channel and a latent frame, such as 0,0")
    return int(channel), int(frame)


def main(argv: list[str] | None = None) -> int:
    """Run `tm-run` with these arguments (the process's own by default); returns its exit code."""
    if argv is None:
        restart_with_huge_pages()
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
            return _answer(request, complaints)
    except KeyboardInterrupt as error:
        return complaints.fail(str(error) or "interrupted; every block is closed", INTERRUPTED)
    except UserError as error:
        return complaints.fail(str(error), error.exit_code)
    except Exception as error:
        return complaints.defect(error, "tm-run")


def _answer(request: Request, complaints: Complaints) -> int:
    """Do what is asked, and print what became of it; returns the exit code."""
    from tm_export.runtime.engines import EngineError, choose_engine
    from tm_export.runtime.loading.machinery import Machinery
    from tm_export.runtime.manifest import read_manifest, verify_files

    refuse_more_than_the_machine_has(request.memory_budget)
    manifest = read_manifest(request.bundle)
    if request.proves_files:
        verify_files(request.bundle, manifest)
    try:
        engine = choose_engine(manifest.target, request.engine, request.threads)
    except EngineError as error:
        raise UsageError(str(error)) from error
    machinery = Machinery(request.bundle, manifest, engine, request.memory_budget, request.prefetch_depth)
    wanted, out = request.wanted, request.out
    if isinstance(wanted, VideoWish):
        return make_prompted(wanted, machinery, out, complaints)
    if isinstance(wanted, Asked):
        return answer_asked(wanted, machinery, out, complaints)
    return run_chosen(wanted, machinery, out, complaints)


if __name__ == "__main__":
    sys.exit(main())
