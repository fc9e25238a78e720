"""A video from a prompt: text encoder, sampling, decoding, in one memory budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tm_export.runtime.apps.contract import contract_in
from tm_export.runtime.apps.videos.contract import TextToVideo
from tm_export.runtime.apps.videos.decode import decode_pictures, decode_windows, decoding_runs
from tm_export.runtime.apps.videos.noise import noise_of_seed
from tm_export.runtime.apps.videos.progress import Place, Progress, SilentProgress, Stage
from tm_export.runtime.apps.videos.sample import Sampled, Sampling, sample
from tm_export.runtime.apps.videos.tokenize import Tokens
from tm_export.runtime.engines.base import Array
from tm_export.runtime.loading.fitted import fitted
from tm_export.runtime.loading.machinery import Machinery
from tm_export.runtime.loading.process_budget import loader_within_budget
from tm_export.runtime.manifest import Manifest


@dataclass(frozen=True)
class Video:
    """What became of a prompt: how its latent was sampled, the seconds of each stage, and how often blocks were loaded.

    A stage's seconds have the loads in them that it waited for.
    """

    sampled: Sampled
    seconds: Mapping[Stage, float]
    loads: int


def contract_of(manifest: Manifest, sampling: Sampling | None = None) -> TextToVideo:
    """How the bundle makes a video.

    Raises:
        BundleError: it makes none, or lacks a component or a variant that sampling needs.
    """
    contract = contract_in(
        manifest,
        TextToVideo,
        f"the bundle of {manifest.model} makes no video from a prompt: name one of a model that does, "
        "exported with all its components",
    )
    for component, variant in _runs(contract, sampling):
        manifest.component(component).variant(variant)
    return contract


def generate(
    machinery: Machinery,
    tokens: Tokens,
    sampling: Sampling,
    seed: int,
    show: Callable[[Array], None],
    progress: Progress | None = None,
) -> Video:
    """Makes the video of a prompt, and shows its frames, uint8 [height, width, 3], as they are decoded.

    Each half of the VAE is run for the whole video before the next is opened. The memory budget bounds the whole
    process; what it holds now is taken off, and the rest is for blocks: the video's own arrays come on top.

    Raises:
        BundleError: as `contract_of`.
        BudgetTooSmall: some block cannot run within the budget.
        EngineError: a block cannot be loaded or run, or gives values that are not finite.
    """
    report, manifest = progress or SilentProgress(), machinery.manifest
    video = contract_of(manifest, sampling)
    with loader_within_budget(machinery, report.block) as loader:
        loader.schedule(_runs(video, sampling))
        start = time.perf_counter()
        report.at(Place("text", 1, 1))
        text = {"input_ids": tokens.input_ids_BL, "mask": tokens.mask_BL}
        states_BLD = loader.run("text_encoder", "full", fitted(manifest, "text_encoder", "full", text))["states"]
        encoded = time.perf_counter()

        noise_BCTHW = noise_of_seed(seed, video.latent_shape)
        sampled = sample(
            loader,
            manifest,
            sampling,
            noise_BCTHW,
            states_BLD,
            tokens.mask_BL,
            tell=lambda step, timestep: report.at(
                Place("sampling", step + 1, sampling.evaluations, f"{sampling.variant(step)}, t {timestep:.0f}")
            ),
        )
        if sampled.evaluations < sampling.evaluations:  # a dynamic leap
            loader.schedule(decoding_runs(video))
        in_latent = time.perf_counter()

        report.at(Place("windows", 1, video.windows))
        frames_FCHW = decode_windows(loader, video, sampled.latent_BCTHW)
        in_frames = time.perf_counter()
        for number, frame_HWC in enumerate(decode_pictures(loader, video, frames_FCHW), start=1):
            report.at(Place("pictures", number, video.frames))
            show(frame_HWC)
        seconds: dict[Stage, float] = {
            "text": encoded - start,
            "sampling": in_latent - encoded,
            "windows": in_frames - in_latent,
            "pictures": time.perf_counter() - in_frames,
        }
        return Video(sampled, seconds, sum(event.kind == "load" for event in loader.events))


def _runs(video: TextToVideo, sampling: Sampling | None) -> list[tuple[str, str]]:
    """All runs of a video, as if no dynamic leap were made."""
    denoising = [] if sampling is None else sampling.runs()
    return [("text_encoder", "full"), *denoising, *decoding_runs(video)]
