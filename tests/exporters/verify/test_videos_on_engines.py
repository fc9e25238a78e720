"""A prompt's video is the same on every engine, and PyTorch's own: the whole of `ondevice-sora-tiny`."""

from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

import tm_export
from tests.support.verified import require_verified
from tm_export.exporters.bundle.bundle import Bundle
from tm_export.models.ondevice_sora.tiny.captions import Caption
from tm_export.models.spec.registry import find_model
from tm_export.models.training.ondevice_sora.detector import Reading, read_video
from tm_export.runtime.apps.tokenizer_file import read_tokenizer
from tm_export.runtime.apps.videos.generate import contract_of, generate
from tm_export.runtime.apps.videos.options import VideoOptions, sampling_of
from tm_export.runtime.apps.videos.tokenize import tokenize
from tm_export.runtime.engines import choose_engine
from tm_export.runtime.engines.base import Array
from tm_export.runtime.loading.machinery import Machinery
from tm_export.runtime.manifest import Manifest, read_manifest

# One worker makes the bundles, for all tests here.
pytestmark = pytest.mark.xdist_group("videos on engines")

MODEL, TARGETS = "ondevice-sora-tiny", ("onnx", "executorch", "coreml")
CAPTION = Caption("red", "circle", "left", "black")
STEPS, MERGE_STEPS, LEAP, GUIDANCE, SEED = 12, 3, 8, 5.0, 3
Video = Array
"""uint8 [F, H, W, 3]."""

# One is whole. The others are cut where layers repeat, which are then converted once.
BUDGETS: dict[str, dict[str, int | str | None]] = {
    "onnx": {},
    "executorch": {"denoiser": "3.3MB"},
    "coreml": {"denoiser": "3.3MB"},
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("tiny")
    return {
        target: tm_export.export(MODEL, target=target, out=out, precision="fp32", block_budget=BUDGETS[target]).path
        for target in TARGETS
    }


@pytest.mark.parametrize("target", TARGETS)
def test_every_network_agrees_with_pytorch(bundles: dict[str, Path], target: str) -> None:
    require_verified(Bundle.read(bundles[target]).report(), target)


def made_by_bundle(path: Path, options: VideoOptions) -> Video:
    manifest: Manifest = read_manifest(path)
    contract = contract_of(manifest)
    tokens = tokenize(CAPTION.text, read_tokenizer(path, contract), contract)
    frames: list[Array] = []
    engine = choose_engine(manifest.target)
    generate(Machinery(path, manifest, engine), tokens, sampling_of(options, contract), SEED, frames.append)
    return np.stack(frames)


@cache
def networks(variant: str) -> dict[str, torch.nn.Module]:
    return {each.name: each.variants.get(variant, each.variants["full"])() for each in find_model(MODEL).components}


@torch.no_grad()
def made_by_pytorch(options: VideoOptions) -> Video:
    """The pipeline as it is written down: rectified flow with guidance, in PyTorch, without the sampler's network."""
    contract = find_model(MODEL).text_to_video
    assert contract is not None
    words = [token.lower() for token in CAPTION.text.split()]
    vocabulary = tm_tokenizer()
    ids = [vocabulary[word] for word in words] + [1]
    mask = torch.zeros(1, contract.text_tokens)
    mask[:, : len(ids)] = 1
    ids_BL = torch.tensor([ids + [0] * (contract.text_tokens - len(ids))])
    states = networks("full")["text_encoder"](ids_BL, mask)
    noise = np.random.Generator(np.random.PCG64(SEED)).standard_normal(contract.latent_shape, dtype=np.float32)
    z = torch.from_numpy(noise)
    steps = options.steps or contract.steps
    raw = [round(1000 * (1 - i / steps)) / 1000 for i in range(steps)]
    r = (contract.height * contract.width / 64**2) ** 0.5 * (contract.latent_shape[2] / 6) ** 0.5
    times = [r * t / (1 + (r - 1) * t) for t in raw]
    evaluations = steps if options.lpl == "off" else int(options.lpl)
    for i in range(evaluations):
        denoiser = networks("merged" if i < options.merge_steps else "full")["denoiser"]
        fps = torch.tensor([contract.fps])
        prediction = denoiser(z, torch.tensor([1000 * times[i]]), states, mask, fps)
        with_text, without = prediction[:1, :4], prediction[1:, :4]
        until = 0.0 if i == evaluations - 1 else times[i + 1]
        z = z + (without + GUIDANCE * (with_text - without)) * (times[i] - until)
    windows = torch.split(z, contract.window, dim=2)
    frames = torch.cat([networks("full")["vae_temporal"](window) for window in windows], dim=2)[0]
    batches = torch.split(frames.transpose(0, 1), contract.batch_frames)
    pictures = torch.cat([networks("full")["vae_spatial"](batch) for batch in batches])
    video: Video = ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return video


def tm_tokenizer() -> dict[str, int]:
    from tm_export.models.ondevice_sora.tiny.captions import words

    return {word: number for number, word in enumerate(("<pad>", "</s>", "<unk>", *words()))}


def psnr(a: Video, b: Video) -> float:
    error = ((a.astype(float) - b.astype(float)) ** 2).mean()
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


@pytest.mark.parametrize(
    "options",
    [
        VideoOptions(steps=STEPS, guidance=GUIDANCE),
        VideoOptions(steps=STEPS, guidance=GUIDANCE, lpl=str(LEAP), merge_steps=MERGE_STEPS),
    ],
    ids=["full", "leap and merge"],
)
def test_every_engine_makes_the_video_that_pytorch_makes(bundles: dict[str, Path], options: VideoOptions) -> None:
    videos = {target: made_by_bundle(path, options) for target, path in bundles.items()}
    videos["pytorch"] = made_by_pytorch(options)
    contract = find_model(MODEL).text_to_video
    assert contract is not None
    assert all(video.shape == (contract.frames, contract.height, contract.width, 3) for video in videos.values())
    for one, other in combinations(videos, 2):
        assert psnr(videos[one], videos[other]) >= 40, (one, other)
    assert videos["onnx"].std() > 10  # not one colour


def test_the_video_shows_what_the_prompt_says(bundles: dict[str, Path]) -> None:
    video = made_by_bundle(bundles["onnx"], VideoOptions())
    seen = read_video(video.transpose(3, 0, 1, 2) / 127.5 - 1)
    assert seen == Reading(CAPTION.colour, CAPTION.shape, CAPTION.motion)
