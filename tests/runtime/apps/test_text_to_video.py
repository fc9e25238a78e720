"""The host's loop against the same arithmetic in NumPy, step by step."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.support.video_bundles import HIDDEN, LATENT, TOKENS, VIDEO, make_video_bundle
from tm_export.runtime.apps.videos.decode import decode_pictures, decode_windows, decoding_runs, pixels
from tm_export.runtime.apps.videos.leap import Leap, dynamic_leap, fixed_leap, no_leap
from tm_export.runtime.apps.videos.noise import noise_of_seed
from tm_export.runtime.apps.videos.sample import Sampled, Sampling, sample
from tm_export.runtime.engines.base import Array, EngineError
from tm_export.runtime.engines.onnx_runtime import OnnxRuntimeEngine
from tm_export.runtime.loading.loader import Loader
from tm_export.runtime.manifest import Manifest, verify_files

Made = tuple[Path, Manifest]
RNG = np.random.default_rng(3)
STATES = RNG.standard_normal((1, TOKENS, HIDDEN)).astype(np.float32)
MASK = np.array([[1, 1, 1, 1, 0, 0]], np.float32)
NOISE = noise_of_seed(5, LATENT)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("video") / "bundle"
    manifest = make_video_bundle(root)
    verify_files(root, manifest)
    return root, manifest


def sampling(leap: Leap, merge_steps: int = 0) -> Sampling:
    return Sampling(VIDEO.steps, merge_steps, VIDEO.guidance, VIDEO.fps, VIDEO.time_shift, leap)


def sampled(made: Made, how: Sampling) -> Sampled:
    root, manifest = made
    with Loader(root, manifest, OnnxRuntimeEngine(threads=1)) as loader:
        loader.schedule(how.runs())
        return sample(loader, manifest, how, NOISE, STATES, MASK)


def expected(how: Sampling) -> tuple[Array, int, float]:
    """The latent, the evaluations and the last timestep, in float64."""
    ratio, count, leap = how.time_shift, how.steps, how.leap
    taus = 1 - np.arange(count + 1) / count
    times = ratio * taus / (1 + (ratio - 1) * taus)
    z, previous = NOISE.astype(np.float64), np.zeros(LATENT)
    best, failures = 0.0, 0
    for step in range(count):
        scaled = z * (0.6 if step < how.merge_steps else 0.8)
        cond = scaled - times[step] + how.fps / 100 + STATES.astype(np.float64).sum() + MASK.sum() / 1000
        velocity = 0.5 * scaled + how.guidance * (cond - 0.5 * scaled)
        here, before = (v[0, leap.channel, leap.frame].ravel() for v in (velocity, previous))
        cosine = here @ before / (np.linalg.norm(here) * np.linalg.norm(before) + 1e-6)
        leaps = step == leap.leap_step
        if step >= leap.first_step:
            failures = 0 if cosine > best + leap.tolerance else failures + 1
            best = max(best, cosine) if failures == 0 else best
            leaps |= failures >= leap.patience
        if leaps:
            return z + velocity * times[step], step + 1, times[step]
        z, previous = z + velocity * (times[step] - times[step + 1]), velocity
    return z, count, times[count - 1]


@pytest.mark.parametrize("merge_steps", [0, 4, 10])
@pytest.mark.parametrize(
    ("leap", "evaluations"),
    [
        (no_leap(10), 10),
        (fixed_leap(6, 10), 6),
        (fixed_leap(1, 10), 1),
        (fixed_leap(10, 10), 10),
        (dynamic_leap(10, first_step=4, tolerance=0.5, patience=3, channel=1, frame=2), 8),
    ],
)
def test_the_loop_computes_what_numpy_computes(made: Made, leap: Leap, evaluations: int, merge_steps: int) -> None:
    how = sampling(leap, merge_steps)
    got = sampled(made, how)
    latent, count, last = expected(how)
    assert got.evaluations == count == evaluations and len(got.similarities) == count
    np.testing.assert_allclose(got.latent_BCTHW, latent, rtol=2e-4, atol=2e-4 * np.abs(latent).max())
    assert got.leapt_share == pytest.approx(last if count < how.steps else 0, rel=1e-5)


def test_nothing_is_kept_between_prompts(made: Made) -> None:
    root, manifest = made
    how = sampling(dynamic_leap(10, first_step=4, tolerance=0.5))
    with Loader(root, manifest, OnnxRuntimeEngine(threads=1)) as loader:
        twice = []
        for _ in range(2):
            loader.schedule(how.runs())  # what the leap left over no longer holds
            twice.append(sample(loader, manifest, how, NOISE, STATES, MASK))
    assert twice[0].similarities == twice[1].similarities
    np.testing.assert_array_equal(twice[0].latent_BCTHW, twice[1].latent_BCTHW)


def test_frames_are_decoded_in_order_and_each_part_is_loaded_once(made: Made) -> None:
    root, manifest = made
    latent = noise_of_seed(1, LATENT) * 9
    with Loader(root, manifest, OnnxRuntimeEngine(threads=1)) as loader:
        loader.schedule(decoding_runs(VIDEO))
        frames = list(decode_pictures(loader, VIDEO, decode_windows(loader, VIDEO, latent)))
    loads = Counter(event.component for event in loader.events if event.kind == "load")
    runs = Counter(event.component for event in loader.events if event.kind == "run")
    assert loads == {"vae_temporal": 1, "vae_spatial": 1} and runs == {"vae_temporal": 2, "vae_spatial": 3}
    sources = [latent[0, :, 0], latent[0, :, 1], latent[0, :, 0] / 2, latent[0, :, 2], latent[0, :, 3]]
    assert len(frames) == VIDEO.frames
    for frame, source in zip(frames, sources, strict=True):
        large = source[:3].repeat(8, axis=1).repeat(8, axis=2).transpose(1, 2, 0).astype(np.float64) / 10
        assert frame.dtype == np.uint8 and frame.shape == (16, 24, 3)
        assert np.abs(frame - (np.clip(large, -1, 1) + 1) * 127.5).max() <= 0.501


def test_pixels_that_are_no_numbers_are_refused() -> None:
    assert pixels(np.array([-7, -1, 0, 1, 7], np.float32).reshape(1, 1, 5)).ravel().tolist() == [0, 0, 128, 255, 255]
    with pytest.raises(EngineError, match="NaN or infinity"):
        pixels(np.array([[[np.nan]]], np.float32))


def test_leaps_that_do_not_fit_name_what_does() -> None:
    for evaluations in (0, 11):
        with pytest.raises(ValueError, match="give 1 to 10"):
            fixed_leap(evaluations, 10)
    for first in (0, 10):
        with pytest.raises(ValueError, match="give 1 to 9"):
            dynamic_leap(10, first_step=first)
    with pytest.raises(ValueError, match="give at least 1"):
        dynamic_leap(10, patience=0)
    with pytest.raises(ValueError, match="0 or more"):
        dynamic_leap(10, tolerance=-1)
    assert dynamic_leap(30).first_step == 14  # the published code's


def test_a_seed_is_one_noise() -> None:
    assert noise_of_seed(7, (2, 3)).dtype == np.float32
    np.testing.assert_array_equal(noise_of_seed(7, (2, 3)).ravel(), noise_of_seed(7, (6,)))
    assert not np.array_equal(noise_of_seed(7, (6,)), noise_of_seed(8, (6,)))
