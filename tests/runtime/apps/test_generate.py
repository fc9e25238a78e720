"""A prompt becomes frames through a bundle alone, whatever the budget; what is missing is named."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.video_bundles import VIDEO, make_video_bundle
from tm_export.runtime.apps.tokenizer_file import read_tokenizer
from tm_export.runtime.apps.videos.decode import decode_pictures, decode_windows
from tm_export.runtime.apps.videos.generate import Video, generate
from tm_export.runtime.apps.videos.leap import Leap, dynamic_leap, fixed_leap, no_leap
from tm_export.runtime.apps.videos.noise import noise_of_seed
from tm_export.runtime.apps.videos.sample import Sampling, sample
from tm_export.runtime.apps.videos.tokenize import tokenize
from tm_export.runtime.engines.base import Array
from tm_export.runtime.engines.onnx_runtime import OnnxRuntimeEngine
from tm_export.runtime.loading.loader import Loader
from tm_export.runtime.loading.machinery import Machinery
from tm_export.runtime.loading.policy import BudgetTooSmall
from tm_export.runtime.manifest import BundleError, Manifest

ENGINE = OnnxRuntimeEngine(threads=1)
Made = tuple[Path, Manifest]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("video") / "bundle"
    return root, make_video_bundle(root)


def sampling(leap: Leap) -> Sampling:
    return Sampling(VIDEO.steps, 4, VIDEO.guidance, VIDEO.fps, VIDEO.time_shift, leap)


def generated(made: Made, leap: Leap, budget: int | None = None) -> tuple[Video, list[Array]]:
    root, manifest = made
    tokens = tokenize("a red circle", read_tokenizer(root, VIDEO), VIDEO)
    frames: list[Array] = []
    video = generate(Machinery(root, manifest, ENGINE, budget), tokens, sampling(leap), 11, frames.append)
    return video, frames


# Text encoder, denoiser in both variants (or in one, if the leap comes first), sampler, both halves of the VAE.
@pytest.mark.parametrize(
    ("leap", "loads"),
    [(no_leap(10), 6), (fixed_leap(3, 10), 5), (dynamic_leap(10, first_step=4, tolerance=0.5), 6)],
)
def test_every_block_is_loaded_once_and_frames_are_those_of_the_states(made: Made, leap: Leap, loads: int) -> None:
    root, manifest = made
    video, frames = generated(made, leap)
    # A load ahead of a step that a dynamic leap leaves out may come on top.
    assert loads <= video.loads <= loads + (leap.first_step < 10)
    ids = np.array([3, 4, 5, 1, 0, 0], np.float32)
    mask = (ids > 0).astype(np.float32)[None]
    states = (ids[None, :, None] * np.array([0.1, -0.05], np.float32)).astype(np.float32)
    with Loader(root, manifest, ENGINE) as loader:
        noise = noise_of_seed(11, VIDEO.latent_shape)
        how = sampling(leap)
        loader.schedule(how.runs())
        latent = sample(loader, manifest, how, noise, states, mask).latent_BCTHW
        loader.schedule([])
        same = list(decode_pictures(loader, VIDEO, decode_windows(loader, VIDEO, latent)))
    assert len(frames) == VIDEO.frames
    for frame, expected in zip(frames, same, strict=True):
        assert np.abs(frame.astype(int) - expected).max() <= 1


def test_a_budget_too_small_is_told_of_the_process(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tm_export.runtime.loading.process_budget.budget_for_blocks", lambda budget, host_bytes: 1000)
    with pytest.raises(BudgetTooSmall, match="the least --memory-budget that works is"):
        generated(made, no_leap(10), 10**9)


def test_what_the_bundle_lacks_is_named(made: Made) -> None:
    root, manifest = made
    with pytest.raises(BundleError, match="makes no video from a prompt"):
        generated((root, manifest.model_copy(update={"host": None})), no_leap(10))
    others = tuple(each for each in manifest.components if each.name != "sampler")
    with pytest.raises(BundleError, match="no component is called 'sampler'; there are: text_encoder"):
        generated((root, manifest.model_copy(update={"components": others})), no_leap(10))
