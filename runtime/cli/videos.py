"""What `tm-run` does with `--prompt`: make a video, and print how."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from tm_export.runtime.cli.console import Complaints, held_too_much

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


def make_prompted(wish: VideoWish, machinery: Machinery, out: Path | None, complaints: Complaints) -> int:
    """Makes the video and prints how; returns the exit code."""
    from tm_export.runtime.apps.videos.make import VideoRequest, make_video
    from tm_export.runtime.apps.videos.options import VideoOptions
    from tm_export.runtime.apps.videos.progress import SilentProgress, progress_on

    wishes = {name: value for name, value in asdict(wish).items() if name not in ("text", "seed")}
    wanted = VideoRequest(wish.text, VideoOptions(**wishes), wish.seed, out or DEFAULT_VIDEO)
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
