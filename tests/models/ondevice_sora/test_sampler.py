"""The sampler against the published schedule, a loop in NumPy with the rules as they are written down, and limits."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tm_export.models.ondevice_sora.config import DenoiserConfig
from tm_export.models.ondevice_sora.network.sampler import Sampler, shifted_time, time_shift
from tm_export.models.ondevice_sora.tiny.sizes import DENOISER as TINY

SIZE = (1, 4, 3, 5, 6)
NEVER = 1e6


@dataclasses.dataclass(frozen=True)
class Rule:
    leap_step: float = NEVER
    first_step: float = NEVER
    tolerance: float = 1e-3
    patience: int = 3
    channel: int = 0
    frame: int = 0


def predictions(steps: int, seed: int, change: float = 0.3) -> list[torch.Tensor]:
    """A prediction for each step, whatever the latent is; consecutive ones are similar."""
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(2, 2 * SIZE[1], *SIZE[2:], generator=generator)
    found = []
    for _ in range(steps):
        value = value + change * torch.randn(value.shape, generator=generator)
        found.append(value)
    return found


def sample(given_predictions: list[torch.Tensor], rule: Rule, guidance: float, shift: float) -> tuple[np.ndarray, list]:
    """The last latent, and (timestep, similarity) of every evaluation: what a host loop does, and no more."""
    steps = len(given_predictions)
    plane = torch.zeros(SIZE[1:3])
    plane[rule.channel, rule.frame] = 1
    latent, velocity = torch.ones(SIZE), torch.zeros(SIZE)
    timestep, best, failures = torch.tensor([1000.0]), torch.zeros(1), torch.zeros(1)
    seen = []
    for step in range(steps):
        numbers = [torch.tensor([float(n)]) for n in (step, steps, guidance, shift)]
        limits = [torch.tensor([float(n)]) for n in (rule.leap_step, rule.first_step, rule.tolerance, rule.patience)]
        evaluated = timestep
        latent, velocity, timestep, similarity, best, failures, done = Sampler()(
            latent, given_predictions[step], velocity, *numbers, *limits, plane, best, failures
        )
        seen.append((float(evaluated), float(similarity)))
        if done:
            return latent.numpy(), seen
    raise AssertionError("the last step is not done")


def sample_by_the_book(
    given_predictions: list[torch.Tensor], rule: Rule, guidance: float, shift: float
) -> tuple[np.ndarray, list]:
    """The same in NumPy and float64, rule by rule as the reference describes the published code."""
    steps = len(given_predictions)
    raw = [round((steps - i) * 1000 / steps) / 1000 for i in range(steps)]
    times = [shift * t / (1 + (shift - 1) * t) * 1000 for t in raw]
    latent, previous = np.ones(SIZE), None
    best, patience = 0.0, rule.patience
    seen = []
    for i, t in enumerate(times):
        conditional, unconditional = given_predictions[i].double().numpy()[:, : SIZE[1]]
        v = (unconditional + guidance * (conditional - unconditional))[None]
        leaps = i >= rule.leap_step
        c = 0.0
        if previous is not None:
            a, b = (x[0, rule.channel, rule.frame] for x in (v, previous))
            c = float(np.mean((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)))
        if i >= rule.first_step:
            if c > best + rule.tolerance:
                best, patience = c, rule.patience
            else:
                patience -= 1
            leaps = leaps or patience == 0
        seen.append((t, c))
        previous = v
        if leaps or i == steps - 1:
            return latent + v * t / 1000, seen
        latent = latent + v * (t - times[i + 1]) / 1000
    raise AssertionError


@pytest.mark.parametrize(
    ("latent_frames", "size", "expected"), [(20, 256, 2.2361), (20, 192, 1.6771), (15, 256, 1.9365), (15, 192, 1.4524)]
)
def test_the_shift_is_the_published_one(latent_frames: int, size: int, expected: float) -> None:
    config = DenoiserConfig(pixel_height=size, pixel_width=size)
    assert time_shift(config, latent_frames) == pytest.approx(expected, abs=5e-5)


def test_the_tiny_models_times_are_even_at_the_size_it_was_trained_for() -> None:
    assert time_shift(TINY, TINY.frames) == 1
    assert time_shift(TINY, 4 * TINY.frames) == 2


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1000), (1, 985.0), (14, 718.5), (15, 691.0), (16, 662.1), (17, 630.7), (28, 138.4), (29, 70.9), (30, 0)],
)
def test_times_are_the_published_ones(step: int, expected: float) -> None:
    shift = torch.tensor([time_shift(DenoiserConfig(), 20)])
    found = shifted_time(torch.tensor([float(step)]), torch.tensor([30.0]), shift)
    assert 1000 * float(found) == pytest.approx(expected, abs=0.06)


def test_the_apps_times_are_those_of_51_frames() -> None:
    shift = torch.tensor([time_shift(DenoiserConfig(), 15)])
    assert 1000 * float(shifted_time(torch.tensor([15.0]), torch.tensor([30.0]), shift)) == pytest.approx(
        659.5, abs=0.05
    )


RULES = (
    Rule(),
    Rule(leap_step=15),
    Rule(first_step=14),
    Rule(first_step=5, tolerance=1e-4, patience=1, channel=2, frame=1),
    Rule(leap_step=9, first_step=3, patience=4, frame=2),
)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("change", [0.0, 0.05, 0.3])
def test_sampling_is_what_the_rules_say(rule: Rule, change: float) -> None:
    given_predictions = predictions(30, seed=3, change=change)
    latent, seen = sample(given_predictions, rule, guidance=7.0, shift=2.2361)
    expected, expected_seen = sample_by_the_book(given_predictions, rule, guidance=7.0, shift=2.2361)
    assert len(seen) == len(expected_seen)
    np.testing.assert_allclose(seen, expected_seen, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(latent, expected, rtol=1e-4, atol=1e-4)


def test_fixed_leap_at_15_is_16_evaluations_and_the_dynamic_one_18_at_the_least() -> None:
    never_better = predictions(30, seed=0, change=0.0)  # the similarity is 1 from the second step on
    assert len(sample(never_better, Rule(leap_step=15), 7.0, 2.2361)[1]) == 16
    assert len(sample(never_better, Rule(first_step=14), 7.0, 2.2361)[1]) == 18


@settings(deadline=None, max_examples=40)
@given(steps=st.integers(1, 40), leap=st.integers(0, 45), shift=st.floats(0.5, 5), guidance=st.floats(0, 9))
def test_a_constant_velocity_is_followed_to_the_end_whatever_the_steps(
    steps: int, leap: int, shift: float, guidance: float
) -> None:
    """The distances of all evaluations sum to 1: a straight flow ends in noise + velocity, leap or none."""
    constant = [predictions(1, seed=1)[0]] * steps
    latent, seen = sample(constant, Rule(leap_step=leap), guidance, shift)
    conditional, unconditional = constant[0][:, : SIZE[1]].numpy()
    np.testing.assert_allclose(
        latent, 1 + (unconditional + guidance * (conditional - unconditional))[None], rtol=1e-4, atol=1e-4
    )
    assert len(seen) == min(steps, leap + 1)
