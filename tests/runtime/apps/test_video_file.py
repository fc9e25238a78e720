"""The mp4 file, read back by a decoder."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tm_export.runtime.apps.videos.video_file import VideoFileError, VideoWriter
from tm_export.runtime.engines.base import Array


def frames(count: int) -> list[Array]:
    """A bright square that moves over a smooth background."""
    row, column = np.mgrid[:48, :64]
    made = []
    for at in range(count):
        frame = np.stack([row * 3, column * 2, row + column], axis=-1).astype(np.uint8)
        frame[16:32, 4 * at : 4 * at + 16] = (230, 60, 40)
        made.append(frame)
    return made


def read_back(path: Path) -> tuple[Fraction, list[Array]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate is not None
        return stream.average_rate, [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


@pytest.mark.parametrize(("fps", "rate"), [(8, Fraction(8)), (24000 / 1001, Fraction(24000, 1001))])
def test_a_video_reads_back_as_written(tmp_path: Path, fps: float, rate: Fraction) -> None:
    path = tmp_path / "new" / "out.mp4"
    with VideoWriter(path, fps, 48, 64) as writer:
        for frame in frames(7):
            writer.write(frame)
    got_rate, got = read_back(path)
    assert got_rate == rate and len(got) == 7 and [each.name for each in path.parent.iterdir()] == ["out.mp4"]
    for frame, same in zip(frames(7), got, strict=True):
        error = np.mean((frame.astype(float) - same) ** 2)
        assert 10 * np.log10(255**2 / error) > 25  # colour is stored at half the resolution


def test_equal_frames_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        with VideoWriter(tmp_path / name, 8, 48, 64) as writer:
            for frame in frames(3):
                writer.write(frame)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize(("error", "kept"), [(KeyboardInterrupt, 3), (ValueError, 0)])
def test_an_interrupt_keeps_the_frames_so_far_and_an_error_none(
    tmp_path: Path, error: type[BaseException], kept: int
) -> None:
    path = tmp_path / "out.mp4"
    with pytest.raises(error), VideoWriter(path, 8, 48, 64) as writer:
        for frame in frames(3):
            writer.write(frame)
        raise error
    assert len(read_back(path)[1] if path.exists() else []) == kept
    assert list(tmp_path.iterdir()) == ([path] if kept else [])


def test_without_a_frame_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "out.mp4", 8, 48, 64):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VideoFileError, match=r"out.mp4 cannot be written"):
        VideoWriter(tmp_path / "file" / "out.mp4", 8, 48, 64)
