"""Writes frames as an H.264 video in an mp4 file, as they come."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import av
from av.video.stream import VideoStream

from tm_export.runtime.engines.base import Array
from tm_export.runtime.errors import UserError

_LARGEST_DENOMINATOR: Final = 1001
"""Of a frame rate: that of 30000/1001, which television has."""


class VideoFileError(UserError):
    """A video that cannot be written; the message names the file."""


class VideoWriter:
    """An mp4 file that is being written under a temporary name. Use it as a context manager.

    At the end, and when it is interrupted (KeyboardInterrupt), the frames so far are moved to `path`; after any other
    error, or without a frame, nothing is left. One thread encodes: equal frames give equal bytes.

    Args:
        path: The file.
        fps: Frames for each second.
        height: Of the frames, in pixels; even, as the width must be.
        width: Of the frames, in pixels.
    """

    def __init__(self, path: Path, fps: float, height: int, width: int) -> None:
        self.frames = 0
        self._path = path
        self._unfinished = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._unfinished), "w", format="mp4")
        except OSError as error:
            raise self._unwritable(error) from error
        rate = Fraction(fps).limit_denominator(_LARGEST_DENOMINATOR)
        stream = self._container.add_stream("libx264", rate=rate, options={"crf": "16"})
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.thread_count = 1
        self._stream = stream

    def write(self, frame_HWC: Array) -> None:
        """Adds a frame, uint8 [height, width, 3]; raises VideoFileError if the disk refuses it."""
        try:
            self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")))
        except OSError as error:
            raise self._unwritable(error) from error
        self.frames += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        is_kept = self.frames > 0 and (kind is None or issubclass(kind, KeyboardInterrupt))
        try:
            if is_kept:
                self._container.mux(self._stream.encode())
            self._container.close()
            if is_kept:
                self._unfinished.replace(self._path)
        except OSError as failure:
            raise self._unwritable(failure) from failure
        finally:
            with suppress(OSError):
                self._unfinished.unlink(missing_ok=True)

    def _unwritable(self, error: OSError) -> VideoFileError:
        return VideoFileError(f"{self._path} cannot be written ({error}); name another file with --out")
