"""A picture of a video: some of its frames, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from tm_export.runtime.engines.base import Array

COLUMNS, MOST_FRAMES = 6, 12
GAP: Final = 2
"""Pixels of white between frames."""


class ContactSheet:
    """Gathers up to 12 frames, evenly spread over the video, as they come.

    Args:
        frames: Of the whole video.
    """

    def __init__(self, frames: int) -> None:
        self._wanted = set(np.linspace(0, frames - 1, min(MOST_FRAMES, frames)).round().astype(int).tolist())
        self._seen = 0
        self._kept: list[Array] = []

    def show(self, frame_HWC: Array) -> None:
        """Takes the next frame, uint8 [height, width, 3]."""
        if self._seen in self._wanted:
            self._kept.append(frame_HWC)
        self._seen += 1

    def save(self, path: Path) -> None:
        """Writes what was gathered as a PNG, in rows of 6; raises OSError if the disk refuses it."""
        assert self._kept, "no frame was shown"
        height, width = self._kept[0].shape[:2]
        columns = min(COLUMNS, len(self._kept))
        rows = -(-len(self._kept) // columns)
        size = rows * (height + GAP) - GAP, columns * (width + GAP) - GAP
        sheet_HWC = np.full((*size, 3), 255, np.uint8)
        for number, frame_HWC in enumerate(self._kept):
            top, left = number // columns * (height + GAP), number % columns * (width + GAP)
            sheet_HWC[top : top + height, left : left + width] = frame_HWC
        Image.fromarray(sheet_HWC).save(path, format="PNG")
