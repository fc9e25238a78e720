"""From a prompt to an mp4 file and a contact sheet beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tm_export.runtime.apps.tokenizer_file import read_tokenizer
from tm_export.runtime.apps.videos.contact_sheet import ContactSheet
from tm_export.runtime.apps.videos.generate import Video, contract_of, generate
from tm_export.runtime.apps.videos.options import VideoOptions, sampling_of
from tm_export.runtime.apps.videos.progress import Progress
from tm_export.runtime.apps.videos.sample import Sampling
from tm_export.runtime.apps.videos.tokenize import Tokens, tokenize
from tm_export.runtime.apps.videos.video_file import VideoFileError, VideoWriter
from tm_export.runtime.engines.base import Array
from tm_export.runtime.errors import UsageError
from tm_export.runtime.loading.machinery import Machinery
from tm_export.runtime.loading.memory import MemorySampler

SUFFIX: Final = ".mp4"


@dataclass(frozen=True)
class VideoRequest:
    """What the video is to show, how, and where it goes."""

    prompt: str
    options: VideoOptions
    seed: int
    out: Path

    @property
    def sheet(self) -> Path:
        """Where the contact sheet goes."""
        return self.out.with_suffix(".png")


@dataclass(frozen=True)
class MadeVideo:
    """A video on disk, how it was made, and the largest resident set of the process meanwhile."""

    path: Path
    sheet: Path
    tokens: Tokens
    sampling: Sampling
    video: Video
    peak_rss_bytes: int


def make_video(
    machinery: Machinery, request: VideoRequest, progress: Progress, warn: Callable[[str], None]
) -> MadeVideo:
    """Makes the video of a prompt; `warn` is told what is amiss with the prompt.

    Raises:
        UsageError: an option is out of range.
        PromptError: no video can be made of the prompt.
        BundleError: the bundle makes no video, or lacks something that the options need.
        BudgetTooSmall, EngineError: as `generate`.
        VideoFileError: the file cannot be written.
        KeyboardInterrupt: the user interrupted; the message says what is kept.
    """
    if request.out.suffix.lower() != SUFFIX:
        raise UsageError(f"--out {request.out} is no name for a video: end it in {SUFFIX}")
    contract = contract_of(machinery.manifest)
    sampling = sampling_of(request.options, contract)
    contract_of(machinery.manifest, sampling)
    tokens = tokenize(request.prompt, read_tokenizer(machinery.bundle_dir, contract), contract)
    for complaint in complaints_of(tokens, contract.text_tokens):
        warn(complaint)
    sheet = ContactSheet(contract.frames)
    with (
        MemorySampler() as memory,
        VideoWriter(request.out, sampling.fps, contract.height, contract.width) as writer,
    ):

        def show(frame_HWC: Array) -> None:
            writer.write(frame_HWC)
            sheet.show(frame_HWC)

        try:
            video = generate(machinery, tokens, sampling, request.seed, show, progress)
        except KeyboardInterrupt:
            if writer.frames == 0:
                raise KeyboardInterrupt("interrupted before the first frame; nothing is kept") from None
            _save(sheet, request.sheet)
            raise KeyboardInterrupt(
                f"interrupted; the first {writer.frames} of {contract.frames} frames are in {request.out}"
            ) from None
        finally:
            progress.end()
        peak = memory.peak_rss_bytes()
    _save(sheet, request.sheet)
    return MadeVideo(request.out, request.sheet, tokens, sampling, video, peak)


def complaints_of(tokens: Tokens, text_tokens: int) -> list[str]:
    """What a user should know of how the prompt was read."""
    complaints = []
    if tokens.unknown:
        words = ", ".join(repr(part) for part in dict.fromkeys(tokens.unknown))
        complaints.append(f"the model does not know {words}: it is left out of account")
    if tokens.left_out:
        complaints.append(
            f"the prompt is too long: its last {tokens.left_out} tokens are left out, {text_tokens - 1} fit"
        )
    return complaints


def _save(sheet: ContactSheet, path: Path) -> None:
    try:
        sheet.save(path)
    except OSError as error:
        raise VideoFileError(f"{path} cannot be written ({error}); name another file with --out") from error
