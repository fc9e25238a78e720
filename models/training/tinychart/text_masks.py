"""Text as masks to paint through, without font files: both faces come with Pillow."""

from functools import lru_cache
from typing import Final

from PIL import Image, ImageDraw, ImageFont

FACES: Final = ("smooth", "bitmap")
SMOOTH_SIZE: Final = 48 / 35  # of Pillow's scalable font, for digits 1 pixel high
BITMAP_ROWS: Final = 7  # of the digits of Pillow's oldest font
BITMAP_PAD: Final = 4  # rows and columns around that font's text


@lru_cache(maxsize=4096)
def text_mask(text: str, face: str, height: int) -> Image.Image:
    """Return a mask of the text, about `height` pixels high from baseline to capitals, whose middle is the mask's."""
    return smooth_mask(text, height) if face == "smooth" else bitmap_mask(text, height)


def smooth_mask(text: str, height: int) -> Image.Image:
    """Return the mask in Pillow's scalable font, made bolder by a pixel."""
    font = ImageFont.load_default(round(SMOOTH_SIZE * height))
    assert isinstance(font, ImageFont.FreeTypeFont)
    left, _, right, _ = font.getbbox(text, anchor="ls", stroke_width=1)
    mask = Image.new("L", (round(right - left), 2 * height))
    baseline = height + height / 2
    ImageDraw.Draw(mask).text((-left, baseline), text, fill=255, font=font, anchor="ls", stroke_width=1)
    return mask


def bitmap_mask(text: str, height: int) -> Image.Image:
    """Return the mask in Pillow's oldest font, its pixels magnified to squares."""
    font = ImageFont.load_default_imagefont()
    wide, high = (round(edge) for edge in font.getbbox(text)[2:])
    small = Image.new("L", (wide + 2 * BITMAP_PAD, high + 2 * BITMAP_PAD))
    ImageDraw.Draw(small).text((BITMAP_PAD, BITMAP_PAD), text, fill=255, font=font)
    first_row = BITMAP_PAD + 2  # of the digits; two rows above them are empty
    ink = small.getbbox()
    assert ink is not None
    box = (ink[0], first_row - 4, ink[2], first_row + BITMAP_ROWS + 4)
    scale = round(height / BITMAP_ROWS)
    cropped = small.crop(box)
    return cropped.resize((scale * cropped.width, scale * cropped.height), Image.Resampling.NEAREST)
