"""One step of the sampler of On-device Sora: guidance, the Euler step of rectified flow, and linear proportional leap.

All of its arithmetic is in this module, which is exported as a block like any network: what is left for the program
that calls it is to feed outputs back until `done`.

Source: Kim et al., "On-device Sora", arXiv 2502.04363, section 3.1 (linear proportional leap); Liu et al., "Flow
Straight and Fast", arXiv 2209.03003; Esser et al., "Scaling Rectified Flow Transformers", arXiv 2403.03206, section
5.3.2, for the shift of time; Ho and Salimans, "Classifier-free diffusion guidance", arXiv 2207.12598.

Legend: C channels, T frames, H rows and W columns of the latent video.
"""

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from tm_export.models.ondevice_sora.config import DenoiserConfig

TRAINING_STEPS: Final = 1000
"""Times are given on the scale of these many steps: 1000 is noise, 0 the video."""


class Sampled(NamedTuple):
    """What a step gives; all but `velocity` and `similarity` go into the next step or end the loop."""

    next_latent_1CTHW: Tensor
    velocity_1CTHW: Tensor
    next_timestep_1: Tensor
    similarity_1: Tensor
    next_best_1: Tensor
    next_failures_1: Tensor
    done_1: Tensor


class Sampler(nn.Module):
    """From the denoiser's prediction to the next latent video, or to the last one.

    A step leaps, that is, goes on with its velocity to the end of the flow, where a rule says so:

    - fixed: at `leap_step`, as the published app does (15, which is after 16 evaluations);
    - dynamic: where the similarity of this velocity and the one before has `patience` times in a row not been better
      than the best so far by more than `tolerance`; looked at from `first_step` on. The published Python code has
      14, 1e-3 and 3; the paper half of the steps and 1e-4.

    Either is turned off by a step that is never reached.
    """

    def forward(
        self,
        latent_1CTHW: Tensor,
        prediction_2CTHW: Tensor,
        previous_velocity_1CTHW: Tensor,
        step_1: Tensor,
        steps_1: Tensor,
        guidance_1: Tensor,
        time_shift_1: Tensor,
        leap_step_1: Tensor,
        first_step_1: Tensor,
        tolerance_1: Tensor,
        patience_1: Tensor,
        plane_CT: Tensor,
        best_1: Tensor,
        failures_1: Tensor,
    ) -> Sampled:
        """Make one step; all tensors are float32.

        Args:
            latent_1CTHW: the noisy latent video.
            prediction_2CTHW: the denoiser's for it, with the prompt and without: [2, 2·C, T, H, W].
            previous_velocity_1CTHW: the velocity of the step before; zeros at first.
            step_1: this step's number, from 0.
            steps_1: how many there are without a leap.
            guidance_1: how much further to go in the prompt's direction; 1 is the prediction with the prompt.
            time_shift_1: from `time_shift`.
            leap_step_1: the step that leaps whatever the similarity is.
            first_step_1: the first step whose similarity is looked at.
            tolerance_1: by how much the similarity must be better.
            patience_1: how many looks in a row may fail to find it so.
            plane_CT: 1 for the one channel and frame that is compared, 0 for others.
            best_1: the best similarity so far; 0 at first.
            failures_1: looks in a row that have failed so far; 0 at first.

        Returns:
            The next latent video, the guided velocity, the next timestep, the similarity, the best similarity and
            the failures from now on, and 1 if this was the last evaluation, else 0.
        """
        channels = latent_1CTHW.shape[1]
        with_prompt, without_prompt = prediction_2CTHW[:1, :channels], prediction_2CTHW[1:, :channels]
        velocity = without_prompt + guidance_1 * (with_prompt - without_prompt)

        similarity_1 = _similarity(velocity, previous_velocity_1CTHW, plane_CT)
        looked_1 = (step_1 >= first_step_1).float()
        better_1 = looked_1 * (similarity_1 > best_1 + tolerance_1).float()
        next_best_1 = better_1 * similarity_1 + (1 - better_1) * best_1
        next_failures_1 = (1 - better_1) * (failures_1 + looked_1)

        leaps_1 = torch.maximum(looked_1 * (next_failures_1 >= patience_1).float(), (step_1 >= leap_step_1).float())
        time_1 = shifted_time(step_1, steps_1, time_shift_1)
        next_time_1 = shifted_time(step_1 + 1, steps_1, time_shift_1)
        distance_1 = time_1 - (1 - leaps_1) * next_time_1
        return Sampled(
            latent_1CTHW + velocity * distance_1,
            velocity,
            next_time_1 * TRAINING_STEPS,
            similarity_1,
            next_best_1,
            next_failures_1,
            torch.maximum(leaps_1, (step_1 + 1 >= steps_1).float()),
        )


def _similarity(velocity_1CTHW: Tensor, previous_1CTHW: Tensor, plane_CT: Tensor) -> Tensor:
    """The mean over rows of the cosine of the angle between a row of one velocity's plane and the other's: [1]."""
    chosen = plane_CT[None, :, :, None, None]
    now_1HW, before_1HW = ((velocity * chosen).sum(dim=(1, 2)) for velocity in (velocity_1CTHW, previous_1CTHW))
    return cosine_similarity(now_1HW, before_1HW, dim=-1).mean(dim=-1)


def shifted_time(step_1: Tensor, steps_1: Tensor, time_shift_1: Tensor) -> Tensor:
    """The time of a step between 1, noise, and 0, the video.

    Times are rounded to a thousandth before they are shifted, as the published code does. A shift above 1 keeps
    them near the noise for longer, where a large video needs it.
    """
    time_1 = torch.round((steps_1 - step_1) * TRAINING_STEPS / steps_1) / TRAINING_STEPS
    return time_shift_1 * time_1 / (1 + (time_shift_1 - 1) * time_1)


def time_shift(config: DenoiserConfig, latent_frames: int) -> float:
    """How much later the noise goes in a video of so many latent frames than in one of `unshifted_pixels`.

    The published app takes 15 latent frames, those of 51 frames, whatever the video has.
    """
    shift: float = (config.pixel_height * config.pixel_width * latent_frames / config.unshifted_pixels) ** 0.5
    return shift
