"""The sampling loop: denoiser, sampler, and again, until the sampler says that it is done.

Layouts: B batch, C channel, T latent frame, H row, W column, L text token, D width of a text state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from tm_export.runtime.apps.videos.leap import Leap
from tm_export.runtime.engines.base import Array, EngineError
from tm_export.runtime.loading.fitted import fitted
from tm_export.runtime.loading.loader import Loader
from tm_export.runtime.manifest import Manifest

FIRST_TIMESTEP: Final = 1000.0
"""The timestep of pure noise, whatever the time shift."""


@dataclass(frozen=True)
class Sampling:
    """How a latent is sampled: `merge_steps` steps are made with merged tokens, the others with all."""

    steps: int
    merge_steps: int
    guidance: float
    fps: float
    time_shift: float
    leap: Leap

    @property
    def evaluations(self) -> int:
        """Network evaluations if no dynamic leap is made."""
        return min(self.steps, self.leap.leap_step + 1)

    def runs(self) -> list[tuple[str, str]]:
        """The (component, variant) that are run if no dynamic leap is made, in order."""
        steps = range(self.evaluations)
        return [run for step in steps for run in (("denoiser", self.variant(step)), ("sampler", "full"))]

    def variant(self, step: int) -> str:
        """The denoiser's variant at a step."""
        return "merged" if step < self.merge_steps else "full"


@dataclass(frozen=True)
class Sampled:
    """A latent video, the network evaluations that it took, and the similarity that each step measured.

    `leapt_share` is the part of the noise range that the last evaluation's Euler step crossed in place of the steps
    that were left out; 0 if none were.
    """

    latent_BCTHW: Array
    evaluations: int
    leapt_share: float
    similarities: tuple[float, ...]


def sample(
    loader: Loader,
    manifest: Manifest,
    sampling: Sampling,
    noise_BCTHW: Array,
    states_BLD: Array,
    mask_BL: Array,
    tell: Callable[[int, float], None] = lambda step, timestep: None,
) -> Sampled:
    """Runs denoiser and sampler from noise to a latent video; nothing is kept from one call to the next.

    Runs that a dynamic leap makes needless stay scheduled: state another schedule afterwards.

    Args:
        loader: Has `sampling.runs()` scheduled next.
        manifest: Of the loader's bundle.
        sampling: How.
        noise_BCTHW: [1, 4, T, H, W] float32.
        states_BLD: The text encoder's states, [1, L, D].
        mask_BL: 1 for real text tokens, [1, L].
        tell: Called before each evaluation with the step and its timestep.

    Raises:
        EngineError: a block cannot be loaded or run, or a latent is not finite.
    """
    channels, frames = noise_BCTHW.shape[1:3]
    plane_CT = np.zeros((channels, frames))
    plane_CT[sampling.leap.channel, sampling.leap.frame] = 1
    constants: Mapping[str, object] = {
        "steps": [sampling.steps],
        "guidance": [sampling.guidance],
        "time_shift": [sampling.time_shift],
        "leap_step": [sampling.leap.leap_step],
        "first_step": [sampling.leap.first_step],
        "tolerance": [sampling.leap.tolerance],
        "patience": [sampling.leap.patience],
        "plane": plane_CT,
    }
    latent, velocity = noise_BCTHW, np.zeros_like(noise_BCTHW)
    timestep = last_timestep = FIRST_TIMESTEP
    best, failures = 0.0, 0.0
    similarities: list[float] = []
    done = False
    step = 0
    while not done:
        if step == sampling.steps:
            raise EngineError(f"the sampler is not done after {step} steps; export again")
        tell(step, timestep)
        text = {"states": states_BLD, "mask": mask_BL}
        wanted = {"latent": latent, "timestep": [timestep], "fps": [sampling.fps], **text}
        variant = sampling.variant(step)
        prediction = loader.run("denoiser", variant, fitted(manifest, "denoiser", variant, wanted))["prediction"]
        state = {"step": [step], "best": [best], "failures": [failures]}
        wanted = {"latent": latent, "prediction": prediction, "previous_velocity": velocity, **state, **constants}
        made = loader.run("sampler", "full", fitted(manifest, "sampler", "full", wanted))
        latent, velocity = made["next_latent"], made["velocity"]
        if not np.isfinite(latent).all():
            raise EngineError(f"the latent of step {step} holds NaN or infinity: export again with --precision fp32")
        last_timestep, timestep = timestep, _number(made["next_timestep"])
        best, failures = _number(made["next_best"]), _number(made["next_failures"])
        similarities.append(_number(made["similarity"]))
        done = _number(made["done"]) > 0.5
        step += 1
    share = last_timestep / FIRST_TIMESTEP if step < sampling.steps else 0.0
    return Sampled(latent, step, share, tuple(similarities))


def _number(array: Array) -> float:
    return float(array.reshape(()))
