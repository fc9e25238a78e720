"""A picture file as the canvas that a bundle's image_preprocess takes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tm_export.runtime.engines.base import Array
from tm_export.runtime.errors import UserError

FORMATS: Final = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")

MOST_PIXELS: Final = 50_000_000
"""Of a file: it is unpacked whole, three bytes for each."""

BEHIND: Final = (255, 255, 255)
"""What shows through a picture that has holes: paper."""


class PictureError(UserError):
    """A file that is no picture, or none that can be taken; the message says why."""


@dataclass(frozen=True)
class Picture:
    """A picture in the upper left corner of a canvas, uint8 [1, S, S, 3], and its rows and columns there.

    `remarks` say what was left out of the file.
    """

    canvas_1SS3: Array
    height: int
    width: int
    remarks: tuple[str, ...]


def read_picture(path: Path, canvas: int) -> Picture:
    """The picture in a file, in RGB, shrunk if one of its sides is longer than the canvas.

    Transparent parts become white, 16 bits 8, and of an animation the first frame is taken.

    Raises:
        PictureError: the file cannot be read, is no picture or a damaged one, or has too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MOST_PIXELS is stricter
            image = Image.open(path, formats=FORMATS)
        with image:
            _require_pixels(path, *image.size)
            remarks = _remarks(path, image)
            image.load()
            shown = ImageOps.exif_transpose(_in_rgb(image))
    except UnidentifiedImageError:
        raise PictureError(f"{path} is no picture that can be read: give a file of type {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise PictureError(f"{path} has far too many pixels, {MOST_PIXELS:,} can be read: shrink it first") from None
    except IsADirectoryError:
        raise PictureError(f"{path} is a folder: name a picture in it") from None
    except FileNotFoundError:
        raise PictureError(f"{path} does not exist: name a picture") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # Pillow's decoders raise all of these
        if isinstance(error, PictureError):
            raise
        raise PictureError(f"{path} cannot be read ({error}): it is damaged, or not yours to read") from None
    shown.thumbnail((canvas, canvas), Image.Resampling.BICUBIC)
    canvas_1SS3 = np.zeros((1, canvas, canvas, 3), np.uint8)
    canvas_1SS3[0, : shown.height, : shown.width] = np.asarray(shown)
    return Picture(canvas_1SS3, shown.height, shown.width, remarks)


def _require_pixels(path: Path, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise PictureError(f"{path} has {width} x {height} pixels, {MOST_PIXELS:,} can be read: shrink it first")


def _remarks(path: Path, image: Image.Image) -> tuple[str, ...]:
    frames = getattr(image, "n_frames", 1)
    return (f"{path} has {frames} frames, of which the first is taken",) if frames > 1 else ()


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # whose conversion would cut off what is above 255
        levels = np.asarray(image).astype(np.int64)
        image = Image.fromarray((levels // (256 if levels.max() > 255 else 1)).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, (*BEHIND, 255))
        image = Image.alpha_composite(behind, image)
    return image.convert("RGB")
