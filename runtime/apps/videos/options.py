"""What a user can say about the video of a prompt, and how it is sampled then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tm_export.runtime.apps.videos.contract import TextToVideo
from tm_export.runtime.apps.videos.leap import Leap, dynamic_leap, fixed_leap, no_leap
from tm_export.runtime.apps.videos.sample import Sampling
from tm_export.runtime.errors import UsageError

MOST_STEPS = 1000
"""Times are whole thousandths: more steps would repeat them."""

MOST_FPS = 240.0


@dataclass(frozen=True)
class VideoOptions:
    """A user's wishes; None leaves a choice to the bundle.

    `lpl` is `off`, `dynamic`, or after how many network evaluations sampling leaps to its end. What follows it is for
    the dynamic rule: the first step that is looked at, the tolerance, the patience, and the plane that is compared, as
    a channel and a latent frame.
    """

    steps: int | None = None
    guidance: float | None = None
    fps: float | None = None
    merge_steps: int = 0
    schedule: Literal["real", "app"] = "real"
    lpl: str = "off"
    lpl_first_step: int | None = None
    lpl_tolerance: float = 1e-3
    lpl_patience: int = 3
    lpl_plane: tuple[int, int] = (0, 0)


def sampling_of(options: VideoOptions, video: TextToVideo) -> Sampling:
    """How the video is sampled.

    Raises:
        UsageError: a choice is out of range.
    """
    steps = video.steps if options.steps is None else options.steps
    guidance = video.guidance if options.guidance is None else options.guidance
    fps = video.fps if options.fps is None else options.fps
    if not 1 <= steps <= MOST_STEPS:
        raise UsageError(f"--steps {steps} is out of range: give 1 to {MOST_STEPS}")
    if not 0 <= guidance <= 100:
        raise UsageError(f"--guidance {guidance:g} is out of range: give 0 to 100; 1 is none")
    if not 1 <= fps <= MOST_FPS:
        raise UsageError(f"--fps {fps:g} is out of range: give 1 to {MOST_FPS:g}")
    if not 0 <= options.merge_steps <= steps:
        raise UsageError(f"--merge-steps {options.merge_steps} is out of range: give 0 to {steps}, the steps")
    shift = video.time_shift if options.schedule == "real" else video.app_time_shift
    return Sampling(steps, options.merge_steps, guidance, fps, shift, leap_of(options, steps, video))


def leap_of(options: VideoOptions, steps: int, video: TextToVideo) -> Leap:
    """The rule for the leap; raises UsageError as `sampling_of`."""
    if options.lpl == "off":
        return no_leap(steps)
    if options.lpl != "dynamic" and not options.lpl.isdecimal():
        raise UsageError(
            f"--lpl {options.lpl!r} is no rule: give off, dynamic, or a number of network evaluations such as 16"
        )
    channel, frame = options.lpl_plane
    channels, frames = video.latent_shape[1:3]
    if not (0 <= channel < channels and 0 <= frame < frames):
        raise UsageError(
            f"--lpl-plane {channel},{frame} is no plane of this video: give a channel of 0 to {channels - 1} and a "
            f"latent frame of 0 to {frames - 1}"
        )
    try:
        if options.lpl == "dynamic":
            return dynamic_leap(
                steps,
                first_step=options.lpl_first_step,
                tolerance=options.lpl_tolerance,
                patience=options.lpl_patience,
                channel=channel,
                frame=frame,
            )
        return fixed_leap(int(options.lpl), steps)
    except ValueError as error:
        raise UsageError(f"--lpl {options.lpl}: {error}") from None
