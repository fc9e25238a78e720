"""Read colour, shape and motion from a video's frames alone.

The shape is told apart by moments that a turn, a shift and a change of size leave as they are: over the area A,
|Σ (x+iy)³| / A^2.5 is 0 for a circle and a square and not for a triangle, |Σ (x+iy)⁴| / A³ is 0 for a circle and
1/60 for a square. Their phases give the rotation. Source: Flusser and Suk, "Rotation moment invariants for
recognition of symmetric objects", IEEE Transactions on Image Processing, 2006.

Legend: T frames, H rows, W columns of pixels.
"""

import colorsys
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HUES: Final = {"red": 0.0, "yellow": 53.0, "green": 123.0, "cyan": 184.0, "blue": 233.0, "purple": 287.0}
LEAST_CONTRAST: Final = 0.15
LEAST_AREA: Final = 12.0  # pixels
SQUARE_MOMENT: Final = 1 / 60
# R³/10 for an equilateral triangle of area 1, whose corners are R from its centre.
TRIANGLE_MOMENT: Final = (4 / 27**0.5) ** 1.5 / 10
# What a motion must come to over the whole video to count: pixels by the width, logarithm of area, radians.
LEAST_SHIFT, LEAST_GROWTH, LEAST_TURN = 0.1, 0.5, 0.45


@dataclass(frozen=True)
class Reading:
    """What is seen; None where nothing is, or nothing that the grammar has a word for."""

    colour: str | None
    shape: str | None
    motion: str | None


def read_video(video_CTHW: Array) -> Reading:
    """Return what a video [3, T, H, W] shows, RGB from −1 to 1."""
    rgb_CTHW = np.clip((video_CTHW.astype(np.float64) + 1) / 2, 0, 1)
    cover_THW, colour_C = segment(rgb_CTHW)
    if (cover_THW.sum(axis=(1, 2)) < LEAST_AREA).any():
        return Reading(None, None, None)
    moments = [frame_moments(cover_HW) for cover_HW in cover_THW]
    third = float(np.median([abs(m.third) for m in moments])) / TRIANGLE_MOMENT
    fourth = float(np.median([abs(m.fourth) for m in moments])) / SQUARE_MOMENT
    shape = "triangle" if third > 0.5 else "square" if fourth > 0.4 else "circle"
    return Reading(read_colour(colour_C), shape, read_motion(moments, shape, video_CTHW.shape[-1]))


def segment(rgb_CTHW: Array) -> tuple[Array, Array]:
    """Return how much of each pixel the shape covers [T, H, W], 0..1, and the shape's colour [3].

    The background is the median of the pictures' edges; the shape's colour is the median of the pixels that
    differ most from it. Cover is a pixel's place on the line between the two colours.
    """
    edges = np.concatenate(
        [rgb_CTHW[:, :, 0], rgb_CTHW[:, :, -1], rgb_CTHW[..., 0], rgb_CTHW[..., -1]], axis=-1
    ).reshape(3, -1)
    ground_C = np.median(edges, axis=1)
    offset_CTHW = rgb_CTHW - ground_C[:, None, None, None]
    distance_THW = np.sqrt((offset_CTHW**2).sum(axis=0))
    far_THW = distance_THW > max(0.75 * float(np.quantile(distance_THW, 0.99)), LEAST_CONTRAST)
    if not far_THW.any():
        return np.zeros(far_THW.shape), ground_C
    line_C = np.median(offset_CTHW[:, far_THW], axis=1)
    cover_THW = np.tensordot(line_C, offset_CTHW, axes=1) / (line_C @ line_C)
    # Noise of the ground would add up over its many pixels.
    return np.where(cover_THW > 0.3, np.clip(cover_THW, 0, 1), 0), ground_C + line_C


@dataclass(frozen=True)
class Moments:
    """Area in pixels, centre of mass in pixels, and the third and fourth moments as complex numbers, by the area."""

    area: float
    x: float
    y: float
    third: complex
    fourth: complex


def frame_moments(cover_HW: Array) -> Moments:
    """Return the moments of one frame's shape."""
    rows, columns = np.indices(cover_HW.shape)
    area = float(cover_HW.sum())
    x, y = float((columns * cover_HW).sum()) / area, float((rows * cover_HW).sum()) / area
    place_HW = (columns - x) + 1j * (rows - y)
    third, fourth = (complex((place_HW**order * cover_HW).sum()) for order in (3, 4))
    return Moments(area, x, y, third / area**2.5, fourth / area**3)


def read_colour(colour_C: Array) -> str | None:
    """Return the word whose hue is nearest, or None for a grey."""
    hue, _, saturation = colorsys.rgb_to_hsv(*colour_C.tolist())
    if saturation < 0.25:
        return None
    return min(HUES, key=lambda name: abs((360 * hue - HUES[name] + 180) % 360 - 180))


def read_motion(moments: list[Moments], shape: str, width: int) -> str | None:
    """Return the motion that exceeds its least by the largest factor, or None if none does."""
    shift_x = change([m.x for m in moments]) / width / LEAST_SHIFT
    shift_y = change([m.y for m in moments]) / width / LEAST_SHIFT
    growth = change([math.log(m.area) for m in moments]) / LEAST_GROWTH
    turn = 0.0
    if shape != "circle":
        fold = 3 if shape == "triangle" else 4
        phases = np.unwrap(np.angle([m.third if shape == "triangle" else m.fourth for m in moments]))
        turn = change((phases / fold).tolist()) / LEAST_TURN
    factors = {
        "right": shift_x,
        "left": -shift_x,
        "down": shift_y,
        "up": -shift_y,
        "grows": growth,
        "shrinks": -growth,
        "rotates": abs(turn),
    }
    motion = max(factors, key=lambda name: factors[name])
    return motion if factors[motion] >= 1 else None


def change(values: list[float]) -> float:
    """Return by how much values change from first to last on their line of least squares."""
    return float(np.polyfit(np.linspace(0, 1, len(values)), values, 1)[0])
