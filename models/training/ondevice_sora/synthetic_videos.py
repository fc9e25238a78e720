"""Videos of one coloured shape that moves, grows, shrinks or rotates over a plain background.

Legend: T frames, H rows, W columns of pixels.
"""

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from tm_export.models.ondevice_sora.tiny.captions import DIRECTIONS, Caption

FRAMES: Final = 18
SIZE: Final = 64
RGB: Final = {
    "red": (0.90, 0.12, 0.12),
    "yellow": (0.95, 0.85, 0.10),
    "green": (0.12, 0.70, 0.15),
    "cyan": (0.10, 0.80, 0.85),
    "blue": (0.15, 0.25, 0.95),
    "purple": (0.70, 0.15, 0.85),
    "black": (0.03, 0.03, 0.03),
    "grey": (0.50, 0.50, 0.50),
    "white": (0.97, 0.97, 0.97),
    "brown": (0.42, 0.28, 0.16),
}
TRIANGLE_AREA: Final = 3**0.5 * 3 / 4  # of the equilateral one whose corners are 1 from its centre
FARTHEST: Final = {"circle": math.pi**-0.5, "square": 0.5**0.5, "triangle": TRIANGLE_AREA**-0.5}


@dataclass(frozen=True)
class Path:
    """Where a shape is in each frame.

    Attributes:
        x_T: columns of its centre of mass, in pixels.
        y_T: rows of its centre of mass, in pixels.
        size_T: root of its area, in pixels.
        angle_T: its rotation, in radians, clockwise as pictures are seen.
    """

    x_T: Tensor
    y_T: Tensor
    size_T: Tensor
    angle_T: Tensor


def draw_video(caption: Caption, generator: torch.Generator) -> Tensor:
    """Return a video [3, T, H, W] of the caption, RGB from −1 to 1, float32.

    Place, size and pace are drawn from the generator; the shape stays whole within the frame and begins upright.
    """
    path = random_path(caption, generator)
    cover_THW = draw_shape(caption.shape, path)
    shape, ground = (torch.tensor(RGB[name])[:, None, None, None] for name in (caption.colour, caption.background))
    return 2 * (ground + (shape - ground) * cover_THW) - 1


def random_path(caption: Caption, generator: torch.Generator) -> Path:
    """Return a path of `FRAMES` frames with the caption's motion at a steady pace."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    time_T = torch.linspace(0, 1, FRAMES)
    still_T = torch.ones(FRAMES)
    size_T, angle_T = uniform(18, 23) * still_T, 0 * still_T
    if caption.motion in ("grows", "shrinks"):
        small, large = uniform(11, 13), uniform(26, 30)
        ends = (small, large) if caption.motion == "grows" else (large, small)
        size_T = ends[0] + (ends[1] - ends[0]) * time_T
    elif caption.motion == "rotates":
        size_T = uniform(21, 26) * still_T
        angle_T = math.radians(uniform(65, 85)) * time_T

    margin = float(size_T.max()) * FARTHEST[caption.shape] + 1
    low, high = margin, SIZE - margin
    x_T, y_T = uniform(low, high) * still_T, uniform(low, high) * still_T
    if caption.motion in DIRECTIONS:
        distance = uniform(0.75, 1.0) * (high - low)
        start = uniform(low, high - distance)
        along_T = start + distance * time_T
        if caption.motion in ("left", "up"):
            along_T = along_T.flip(0)
        x_T, y_T = (along_T, y_T) if caption.motion in ("left", "right") else (x_T, along_T)
    return Path(x_T, y_T, size_T, angle_T)


def draw_shape(shape: str, path: Path) -> Tensor:
    """Return how much of each pixel [T, H, W] the shape covers, 0..1, its edge softened over one pixel."""
    centres = torch.arange(SIZE) + 0.5
    right_THW = (centres[None, None, :] - path.x_T[:, None, None]).expand(-1, SIZE, -1)
    down_THW = (centres[None, :, None] - path.y_T[:, None, None]).expand(-1, -1, SIZE)
    size_T11 = path.size_T[:, None, None]
    if shape == "circle":
        outside_THW = torch.hypot(right_THW, down_THW) - FARTHEST["circle"] * size_T11
    else:
        sides = 4 if shape == "square" else 3
        inner_T11 = FARTHEST[shape] * math.cos(math.pi / sides) * size_T11
        # The normals of the sides: one points straight down, so that square and triangle stand on a side.
        angles = [path.angle_T[:, None, None] + math.pi / 2 + 2 * math.pi * side / sides for side in range(sides)]
        distances = [right_THW * angle.cos() + down_THW * angle.sin() for angle in angles]
        outside_THW = torch.stack(distances).amax(dim=0) - inner_T11
    cover_THW: Tensor = (0.5 - outside_THW).clamp(0, 1)
    return cover_THW
