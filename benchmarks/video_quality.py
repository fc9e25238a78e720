"""What leaping and merging cost in quality and save in time, through the exported bundle of `ondevice-sora-tiny`.

    pip install scikit-image
    tm-export --target onnx
    python benchmarks/video_quality.py out/ondevice-sora-tiny-onnx --sheet sheet.png --json quality.json

For every held-out caption, with a seed of its own (`--rounds 3`: with three), each way of sampling makes a video; ways
take turns, so that a busy machine slows them alike. Reported of each way: network evaluations; median seconds of
sampling, with loads and the sampler's runs in them, and by how much full sampling takes longer (the median over videos
of the ratio), also for the denoiser's runs alone; PSNR and SSIM to the video of full sampling; and caption fidelity: in
how many videos the detector reads colour, shape and motion as the caption has them, with Wilson's interval of 95 %.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from wilson import wilson

from tm_export.models.ondevice_sora.tiny.captions import Caption, held_out_captions
from tm_export.models.training.ondevice_sora.detector import Reading, read_video
from tm_export.runtime.apps.tokenizer_file import read_tokenizer
from tm_export.runtime.apps.videos.generate import contract_of, generate
from tm_export.runtime.apps.videos.options import VideoOptions, sampling_of
from tm_export.runtime.apps.videos.progress import SilentProgress
from tm_export.runtime.apps.videos.tokenize import tokenize
from tm_export.runtime.engines import choose_engine
from tm_export.runtime.engines.base import Array
from tm_export.runtime.loading.events import Event
from tm_export.runtime.loading.machinery import Machinery
from tm_export.runtime.manifest import read_manifest

PARTS = ("colour", "shape", "motion")
REPORT_EVERY = 60


def ways_of(steps: int) -> dict[str, VideoOptions]:
    """The ways of sampling; the first is what others are compared with."""
    half, leap = steps // 2, str(steps // 2 + 1)
    return {
        "full": VideoOptions(),
        f"LPL fixed, {leap} of {steps}": VideoOptions(lpl=leap),
        "LPL dynamic": VideoOptions(lpl="dynamic"),
        "LPL dynamic, the paper's tolerance": VideoOptions(lpl="dynamic", lpl_tolerance=1e-4),
        "TDTM 50 %": VideoOptions(merge_steps=half),
        "TDTM 100 %": VideoOptions(merge_steps=steps),
        "LPL fixed and TDTM 50 %": VideoOptions(lpl=leap, merge_steps=half),
        "LPL fixed and TDTM 100 %": VideoOptions(lpl=leap, merge_steps=steps),
    }


@dataclass(frozen=True)
class Made:
    """One video: its frames, uint8 [F, H, W, 3], and what it took."""

    frames_FHWC: Array
    evaluations: int
    seconds: float
    denoiser_seconds: float


class DenoiserClock(SilentProgress):
    """Sums the seconds of the denoiser's runs."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def block(self, event: Event) -> None:
        """Adds one."""
        if event.kind == "run" and event.component == "denoiser":
            self.seconds += (event.end_ns - event.start_ns) / 1e9


@dataclass(frozen=True)
class Row:
    """One way of sampling over all captions."""

    way: str
    videos: int
    evaluations: float
    seconds: float
    speed_up: float
    denoiser_speed_up: float
    psnr_db: float
    ssim: float
    right: int
    fidelity: float
    fidelity_low: float
    fidelity_high: float
    parts: dict[str, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--captions", type=int, help="so many of the held-out ones; all unless given")
    parser.add_argument("--rounds", type=int, default=1, help="videos of each caption, from noises of their own")
    parser.add_argument("--guidance", type=float, help="the bundle's unless given")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sheet", type=Path, help="PNG: a row of frames for each tenth caption, full sampling")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    manifest = read_manifest(arguments.bundle)
    contract = contract_of(manifest)
    machinery = Machinery(arguments.bundle, manifest, choose_engine(manifest.target, None, arguments.threads))
    tokenizer = read_tokenizer(arguments.bundle, contract)
    captions = arguments.rounds * spread(held_out_captions())[: arguments.captions]
    ways = ways_of(contract.steps)
    made: dict[str, list[Made]] = {way: [] for way in ways}
    for number, caption in enumerate(captions):
        tokens = tokenize(caption.text, tokenizer, contract)
        names = list(ways)
        for way in names[number % len(names) :] + names[: number % len(names)]:
            options = ways[way]
            if arguments.guidance is not None:
                options = replace(options, guidance=arguments.guidance)
            frames: list[Array] = []
            sampling = sampling_of(options, contract)
            clock = DenoiserClock()
            video = generate(machinery, tokens, sampling, number, frames.append, clock)
            seconds = video.seconds["sampling"], clock.seconds
            made[way].append(Made(np.stack(frames), video.sampled.evaluations, *seconds))
        if (number + 1) % REPORT_EVERY == 0 or number + 1 == len(captions):
            print(f"{number + 1} of {len(captions)} videos", flush=True)
            rows = [row_of(way, videos, made["full"], captions[: number + 1]) for way, videos in made.items()]
            print("\n".join(in_words(row) for row in rows), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))
    if arguments.sheet:
        full = made["full"]
        shown = [video.frames_FHWC[::3] for video in full[: len(captions) // arguments.rounds : 10]]
        Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in shown])).save(arguments.sheet)


def spread(captions: tuple[Caption, ...]) -> tuple[Caption, ...]:
    """The captions in an order whose every beginning has some of all kinds."""
    stride = next(stride for stride in (7, 11, 13) if math.gcd(stride, len(captions)) == 1)
    return tuple(captions[stride * number % len(captions)] for number in range(len(captions)))


def row_of(way: str, videos: list[Made], full: list[Made], captions: tuple[Caption, ...]) -> Row:
    """What a way comes to."""
    readings = [read(video.frames_FHWC) for video in videos]
    truths = [Reading(caption.colour, caption.shape, caption.motion) for caption in captions]
    right = sum(reading == truth for reading, truth in zip(readings, truths, strict=True))
    low, high = wilson(right, len(captions))
    pairs = list(zip(videos, full, strict=True))
    return Row(
        way=way,
        videos=len(videos),
        evaluations=statistics.mean(video.evaluations for video in videos),
        seconds=statistics.median(video.seconds for video in videos),
        speed_up=statistics.median(reference.seconds / video.seconds for video, reference in pairs),
        denoiser_speed_up=statistics.median(
            reference.denoiser_seconds / video.denoiser_seconds for video, reference in pairs
        ),
        psnr_db=statistics.mean(psnr(video.frames_FHWC, reference.frames_FHWC) for video, reference in pairs),
        ssim=statistics.mean(ssim(video.frames_FHWC, reference.frames_FHWC) for video, reference in pairs),
        right=right,
        fidelity=right / len(captions),
        fidelity_low=low,
        fidelity_high=high,
        parts={
            part: sum(
                getattr(reading, part) == getattr(truth, part) for reading, truth in zip(readings, truths, strict=True)
            )
            for part in PARTS
        },
    )


def read(frames_FHWC: Array) -> Reading:
    """What the detector sees."""
    return read_video(frames_FHWC.transpose(3, 0, 1, 2) / 127.5 - 1)


def psnr(frames_FHWC: Array, reference_FHWC: Array) -> float:
    """Decibels over the whole video; 100 if they are equal."""
    if (frames_FHWC == reference_FHWC).all():
        return 100.0
    return float(peak_signal_noise_ratio(reference_FHWC, frames_FHWC, data_range=255))


def ssim(frames_FHWC: Array, reference_FHWC: Array) -> float:
    """Mean over frames."""
    return statistics.mean(
        float(structural_similarity(frame, reference, channel_axis=2, data_range=255))
        for frame, reference in zip(frames_FHWC, reference_FHWC, strict=True)
    )


def in_words(row: Row) -> str:
    """The row of a table in Markdown."""
    parts = ", ".join(f"{part} {count}" for part, count in row.parts.items())
    fidelity = f"{row.fidelity:.1%} ({row.fidelity_low:.1%} to {row.fidelity_high:.1%})"
    columns = (
        row.way,
        f"{row.evaluations:.1f}",
        f"{row.seconds * 1e3:.0f} ms",
        f"{row.speed_up:.2f}x",
        f"{row.denoiser_speed_up:.2f}x",
        f"{row.psnr_db:.1f} dB",
        f"{row.ssim:.3f}",
        fidelity,
        parts,
    )
    return f"| {' | '.join(columns)} |"


if __name__ == "__main__":
    main()
