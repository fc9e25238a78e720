"""When sampling leaps to its end: Linear Proportional Leap, in the terms of the sampler's inputs.

"On-device Sora", arXiv 2502.04363, section 3 (the dynamic rule) and Table 5 (the fixed one).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Leap:
    """Where a leap may be made; steps are counted from 0.

    A fixed leap is made after the evaluation of `leap_step`. From `first_step` on, the cosine similarity of successive
    velocities, in one `channel` of one latent `frame`, is looked at: when it has failed `patience` times to exceed its
    best by `tolerance`, a leap is made. A step that is never reached switches either rule off.
    """

    leap_step: int
    first_step: int
    tolerance: float = 1e-3
    patience: int = 3
    channel: int = 0
    frame: int = 0


def no_leap(steps: int) -> Leap:
    """All steps are made."""
    return Leap(leap_step=steps, first_step=steps)


def fixed_leap(evaluations: int, steps: int) -> Leap:
    """The leap after so many network evaluations, as in the published app and the paper's tables.

    Raises:
        ValueError: fewer than 1 evaluation, or more than there are steps.
    """
    if not 1 <= evaluations <= steps:
        raise ValueError(f"a leap after {evaluations} evaluations does not fit {steps} steps: give 1 to {steps}")
    return Leap(leap_step=evaluations - 1, first_step=steps)


def dynamic_leap(
    steps: int,
    *,
    first_step: int | None = None,
    tolerance: float = 1e-3,
    patience: int = 3,
    channel: int = 0,
    frame: int = 0,
) -> Leap:
    """The leap when velocities change no more. The defaults are those of the published Python code.

    There, `first_step` is 14 of 30, for other numbers of steps taken in proportion. The paper's are half the steps and
    a tolerance of 1e-4.

    Raises:
        ValueError: `first_step` has no step before it to compare with, or is beyond the last; a tolerance or a
            patience that cannot be.
    """
    first = max(1, 14 * steps // 30) if first_step is None else first_step
    if not 1 <= first < steps:
        raise ValueError(f"similarity cannot be looked at from step {first} of {steps}: give 1 to {steps - 1}")
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance {tolerance} is none of a similarity: give 0 or more, below 1")
    if patience < 1:
        raise ValueError(f"patience {patience} is too little: give at least 1")
    return Leap(steps, first, tolerance, patience, channel, frame)
