"""Weights that were never trained but keep a network's numbers in range.

A tensor's values follow from the seed and its key alone. Drawing billions of normal numbers takes minutes, so
one pool of them is drawn, and each piece of a large tensor is a run of the pool from a random place, with a
random sign. Hence no two tensors are equal, and neither are two rows of one; but they are not independent, and
statistics over more numbers than the pool has mean nothing. Tensors of no more than one piece are drawn afresh.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from tm_export.models.checkpoints.tensor_source import StoredSpec

POOL: Final = 2**24
"""Numbers in the pool: 64 MiB."""
PIECE: Final = 2**20

NEAR_ONE: Final = 0.1
NEAR_ZERO: Final = 0.02


@dataclass(frozen=True)
class Normal:
    """A normal distribution."""

    mean: float
    std: float


def distribution(key: str, shape: tuple[int, ...]) -> Normal:
    """Return what a tensor's values are drawn from, by what its key and shape say that it is.

    Weights that are multiplied with a vector keep its variance (std 1/√fan-in). Factors of single channels,
    as norms have, are near one; biases and all else with one axis near zero.
    """
    name = key.rpartition(".")[2]
    if name == "scale" or (name == "weight" and len(shape) == 1):
        return Normal(1, NEAR_ONE)
    if name == "shift" or len(shape) < 2:
        return Normal(0, NEAR_ZERO)
    return Normal(0, 1 / math.sqrt(math.prod(shape[1:])))


class SyntheticValues:
    """The values of any tensor, piece by piece."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.pool = _draw(_generator(seed, "pool"), POOL)

    def pieces(self, key: str, spec: StoredSpec) -> Iterator[Tensor]:
        """Yield a tensor's elements in order, at most `PIECE` at a time; what is not floating point is zeros."""
        count = math.prod(spec.shape)
        normal = distribution(key, spec.shape)
        generator = _generator(self.seed, f"tensor {key}")
        for start in range(0, count, PIECE):
            size = min(PIECE, count - start)
            if not spec.dtype.is_floating_point:
                yield torch.zeros(size, dtype=spec.dtype)
                continue
            noise = _draw(generator, size) if size == count else self._run_of_pool(generator, size)
            yield (noise * normal.std + normal.mean).to(spec.dtype)

    def _run_of_pool(self, generator: np.random.Generator, size: int) -> Tensor:
        place = int(generator.integers(POOL - size + 1))
        sign = 1 - 2 * int(generator.integers(2))
        return self.pool[place : place + size] * sign


def _generator(seed: int, purpose: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def _draw(generator: np.random.Generator, count: int) -> Tensor:
    return torch.from_numpy(generator.standard_normal(count, dtype=np.float32))
