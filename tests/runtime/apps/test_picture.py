"""Reading pictures: every kind of file, and what is none."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tm_export.runtime.apps.charts.picture import PictureError, read_picture

CANVAS = 64
RED = (200, 10, 20)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def shown(path: Path) -> np.ndarray:
    picture = read_picture(path, CANVAS)
    assert picture.canvas_1SS3.shape == (1, CANVAS, CANVAS, 3)
    return picture.canvas_1SS3[0, : picture.height, : picture.width]


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "webp", "tiff", "jpg"])
def test_a_picture_lies_in_the_corner_of_the_canvas(tmp_path, suffix):
    path = saved(
        tmp_path / f"a.{suffix}", Image.new("RGB", (30, 20), RED), **({"lossless": True} if suffix == "webp" else {})
    )
    picture = read_picture(path, CANVAS)
    assert (picture.height, picture.width, picture.remarks) == (20, 30, ())
    assert np.abs(shown(path).astype(int) - RED).max() <= (3 if suffix == "jpg" else 0)
    assert not picture.canvas_1SS3[0, 20:].any() and not picture.canvas_1SS3[0, :, 30:].any()


@pytest.mark.parametrize(("size", "fits"), [((1, 1), (1, 1)), ((128, 32), (16, 64)), ((64, 200), (64, 20))])
def test_a_picture_that_is_too_large_is_shrunk_in_proportion(tmp_path, size, fits):
    assert shown(saved(tmp_path / "a.png", Image.new("RGB", size, RED))).shape[:2] == fits


def test_16_bits_become_8(tmp_path):
    levels = np.array([[0, 256, 32768, 65535]], dtype=np.uint16)
    assert shown(saved(tmp_path / "a.png", Image.fromarray(levels)))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_what_is_transparent_becomes_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (*RED, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    assert shown(saved(tmp_path / "a.png", image))[0].tolist() == [list(RED), [255, 255, 255]]
    palette = Image.new("P", (1, 1), 0)
    assert shown(saved(tmp_path / "b.png", palette, transparency=0))[0].tolist() == [[255, 255, 255]]


def test_inks_become_light(tmp_path):
    path = saved(tmp_path / "a.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)))
    red, green, blue = shown(path)[0, 0].tolist()
    assert red > 200 and green < 60 and blue < 60


def test_of_an_animation_the_first_frame_is_taken_and_it_is_said(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, (0, 0, 255))]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert shown(path)[0, 0].tolist() == list(RED)
    assert read_picture(path, CANVAS).remarks == (f"{path} has 2 frames, of which the first is taken",)


def test_a_photograph_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter
    assert shown(saved(tmp_path / "a.jpg", Image.new("RGB", (30, 20), RED), exif=exif)).shape[:2] == (30, 20)


def refusal(path: Path) -> str:
    with pytest.raises(PictureError) as caught:
        read_picture(path, CANVAS)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def png_that_claims(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b""
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")):
        chunks += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("size", [(20_000, 20_000), (10_000, 6_000), (2_000_000, 26)])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path, size):
    (tmp_path / "a.png").write_bytes(png_that_claims(*size))
    assert "50,000,000 can be read: shrink it first" in refusal(tmp_path / "a.png")


@pytest.mark.parametrize(
    "content", [b"", b"no picture at all", b"%PDF-1.4 ...", b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
)
def test_what_is_no_picture_is_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert "is no picture that can be read" in refusal(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tiff", "bmp"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_picture_is_refused(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(noise))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "cannot be read" in refusal(path) or "is no picture" in refusal(path)


def test_what_cannot_be_opened_is_named(tmp_path):
    assert "does not exist: name a picture" in refusal(tmp_path / "none.png")
    assert "is a folder" in refusal(tmp_path)
