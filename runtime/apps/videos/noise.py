"""The noise that a video begins as."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tm_export.runtime.engines.base import Array


def noise_of_seed(seed: int, shape: Sequence[int]) -> Array:
    """Standard normal float32 noise: NumPy's `Generator(PCG64(seed)).standard_normal(shape, dtype=float32)`.

    PCG64 is seeded through NumPy's SeedSequence, the numbers are drawn by its float32 ziggurat and fill the shape with
    the last axis fastest; another host that does the same begins the same video.
    """
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(tuple(shape), dtype=np.float32)
