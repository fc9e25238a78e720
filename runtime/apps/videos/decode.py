"""From a latent video to pictures: all temporal windows, then all spatial batches, so that neither half comes back.

Layouts: B batch, C channel, T latent frame, F frame, H row, W column.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tm_export.runtime.apps.videos.contract import TextToVideo
from tm_export.runtime.engines.base import Array, EngineError
from tm_export.runtime.loading.loader import Loader


def decoding_runs(video: TextToVideo) -> list[tuple[str, str]]:
    """The (component, variant) that `decode_windows` and then `decode_pictures` run, in order."""
    return [("vae_temporal", "full")] * video.windows + [("vae_spatial", "full")] * video.batches


def decode_windows(loader: Loader, video: TextToVideo, latent_BCTHW: Array) -> Array:
    """The frames [F, 4, H, W] of a latent video: what the temporal half of the VAE makes of its windows.

    Args:
        loader: Has `decoding_runs(video)` scheduled next.
        video: The bundle's contract.
        latent_BCTHW: [1, 4, T, H, W] float32.

    Raises:
        EngineError: a block cannot be loaded or run.
    """
    windows = np.split(latent_BCTHW, video.windows, axis=2)
    decoded = [loader.run("vae_temporal", "full", {"latent": window})["frames"] for window in windows]
    frames_FCHW: Array = np.concatenate([frames_BCFHW[0].swapaxes(0, 1) for frames_BCFHW in decoded])[: video.frames]
    return frames_FCHW


def decode_pictures(loader: Loader, video: TextToVideo, frames_FCHW: Array) -> Iterator[Array]:
    """Yields the video's frames one after another as uint8 [height, width, 3], as soon as each batch is decoded.

    Args:
        loader: Has the rest of `decoding_runs(video)` scheduled next.
        video: The bundle's contract.
        frames_FCHW: From `decode_windows`.

    Raises:
        EngineError: a block cannot be loaded or run, or a picture is not finite.
    """
    missing = video.batches * video.batch_frames - video.frames
    padded_FCHW = np.concatenate([frames_FCHW, np.repeat(frames_FCHW[-1:], missing, axis=0)])
    for batch in range(video.batches):
        first = batch * video.batch_frames
        batch_FCHW = np.ascontiguousarray(padded_FCHW[first : first + video.batch_frames])
        pictures_FCHW = loader.run("vae_spatial", "full", {"frames": batch_FCHW})["pictures"]
        for picture_CHW in pictures_FCHW[: video.frames - first]:
            yield pixels(picture_CHW)


def pixels(picture_CHW: Array) -> Array:
    """uint8 [H, W, 3] of a picture whose values −1 to 1 mean black to full; what is beyond is cut off.

    Raises:
        EngineError: it holds NaN or infinity.
    """
    if not np.isfinite(picture_CHW).all():
        raise EngineError("a picture holds NaN or infinity: export again with --precision fp32")
    brightness = (np.clip(picture_CHW, -1, 1) + 1) / 2
    return np.floor(brightness * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
