"""`tm-run video`: make a video of a prompt, and print how."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

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
    Seed,
    Threads,
    VerifyFiles,
    budget_of,
    given_options,
    refuse,
)

if TYPE_CHECKING:
    from tm_export.runtime.apps.videos.make import MadeVideo
    from tm_export.runtime.loading.machinery import Machinery

DEFAULT_VIDEO: Final = Path("video.mp4")

Schedule = Literal["real", "app"]


@dataclass(frozen=True)
class VideoWish:
    """A video that is asked for; the names are those of the options."""

    text: str
    seed: int
    steps: int | None
    guidance: float | None
    fps: float | None
    merge_steps: int
    schedule: Schedule
    lpl: str
    lpl_first_step: int | None
    lpl_tolerance: float
    lpl_patience: int
    lpl_plane: tuple[int, int]


ONLY_DYNAMIC: Final = frozenset({"lpl_first_step", "lpl_tolerance", "lpl_patience", "lpl_plane"})
_VIDEO, _LEAP = "The video", "Leaping to the end of sampling"

HELP: Final = """Make a video of a prompt: an mp4 file, and a contact sheet as PNG beside it.

[bold]Examples[/bold]

tm-run video out/ondevice-sora-tiny-onnx --prompt "a red circle moves left" -o out.mp4

tm-run video out/ondevice-sora-onnx --prompt "waves on a beach" --lpl 16 --merge-steps 15 --memory-budget 2GB
"""


def parse(
    context: typer.Context,
    bundle: BundleFolder,
    prompt: Annotated[str, typer.Option(metavar="TEXT", help="What the video shows.", rich_help_panel=_VIDEO)],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The mp4 file to write.", rich_help_panel=_VIDEO)
    ] = DEFAULT_VIDEO,
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
    schedule: Annotated[
        Schedule,
        typer.Option(
            help="Of times: for the video's real number of frames, or for 51 as in the published app.",
            rich_help_panel=_VIDEO,
        ),
    ] = "real",
    lpl: Annotated[
        str,
        typer.Option(
            metavar="off|N|dynamic",
            help="Never, after N network evaluations, or when velocities change no more.",
            rich_help_panel=_LEAP,
        ),
    ] = "off",
    lpl_first_step: Annotated[
        int | None,
        typer.Option(
            help="Dynamic: from which step on velocities are compared; default: 14 of 30, the published code's "
            "(the paper: half of the steps).",
            rich_help_panel=_LEAP,
        ),
    ] = None,
    lpl_tolerance: Annotated[
        float, typer.Option(help="Dynamic: what counts as a change; the paper: 1e-4.", rich_help_panel=_LEAP)
    ] = 1e-3,
    lpl_patience: Annotated[
        int, typer.Option(help="Dynamic: after so many steps without a change.", rich_help_panel=_LEAP)
    ] = 3,
    lpl_plane: Annotated[
        str, typer.Option(metavar="C,T", help="Dynamic: channel and latent frame compared.", rich_help_panel=_LEAP)
    ] = "0,0",
    seed: Seed = 0,
    memory_budget: MemoryBudget = "none",
    prefetch_depth: PrefetchDepth = 1,
    threads: Threads = None,
    engine: EngineName = None,
    verify_files: VerifyFiles = True,
    as_json: AsJson = False,
    debug: Debug = False,
) -> Request:
    """What this command line asks for."""
    if lpl != "dynamic":
        refuse(given_options(context) & ONLY_DYNAMIC, f" is for --lpl dynamic, and this is --lpl {lpl}")
    running = Running(bundle, budget_of(memory_budget), prefetch_depth, threads, engine, verify_files, as_json, debug)
    wish = VideoWish(
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
    return Request(running, partial(make_prompted, wish, out))


def _plane(text: str) -> tuple[int, int]:
    channel, _, frame = text.partition(",")
    if not (channel.isdecimal() and frame.isdecimal()):
        raise typer.BadParameter(f"--lpl-plane {text!r} is no plane: give a channel and a latent frame, such as 0,0")
    return int(channel), int(frame)


def make_prompted(wish: VideoWish, out: Path, machinery: Machinery, complaints: Complaints) -> int:
    """Makes the video and prints how; returns the exit code."""
    from tm_export.runtime.apps.videos.make import VideoRequest, make_video
    from tm_export.runtime.apps.videos.options import VideoOptions
    from tm_export.runtime.apps.videos.progress import SilentProgress, progress_on

    wishes = {name: value for name, value in asdict(wish).items() if name not in ("text", "seed")}
    wanted = VideoRequest(wish.text, VideoOptions(**wishes), wish.seed, out)
    progress = SilentProgress() if complaints.as_json else progress_on(sys.stderr)
    made = make_video(machinery, wanted, progress, complaints.warn)
    code, complaint = held_too_much(made.peak_rss_bytes, machinery.memory_budget)
    return complaints.conclude(code, complaint, _as_json(made), lambda: _print(made))


def _print(made: MadeVideo) -> None:
    from tm_export.runtime.readable import in_bytes

    sampled, steps = made.video.sampled, made.sampling.steps
    print(f"{sampled.evaluations} network evaluations for {steps} steps, {_merged_evaluations(made)} of them merged")
    if sampled.evaluations < steps:
        saved = 1 - sampled.evaluations / steps
        print(f"leap: {saved:.0%} of the evaluations saved, {sampled.leapt_share:.0%} of the noise range leapt")
    stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in made.video.seconds.items())
    print(f"{stages}; {made.video.loads} loads; peak RSS {in_bytes(made.peak_rss_bytes)}")
    print(f"{made.path}, {made.sheet}")


def _as_json(made: MadeVideo) -> Mapping[str, Any]:
    return {
        "video": str(made.path),
        "sheet": str(made.sheet),
        "text": made.tokens.text,
        "steps": made.sampling.steps,
        "evaluations": made.video.sampled.evaluations,
        "leapt_share": made.video.sampled.leapt_share,
        "merged_evaluations": _merged_evaluations(made),
        "seconds": dict(made.video.seconds),
        "loads": made.video.loads,
        "peak_rss_bytes": made.peak_rss_bytes,
    }


def _merged_evaluations(made: MadeVideo) -> int:
    return min(made.video.sampled.evaluations, made.sampling.merge_steps)
