"""Compares a run's outputs with the golden ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from tm_export.runtime.engines.base import Array

MIN_PSNR_DB: Final = 40.0
"""What an fp16 artifact must reach when it is exported; the manifest does not say how narrow an artifact computes."""


@dataclass(frozen=True)
class Difference:
    """How far one output is from the golden one; `psnr_db` is infinite if they are equal."""

    output: str
    max_abs_error: float
    psnr_db: float

    @property
    def passed(self) -> bool:
        """Whether the output counts as the same."""
        return self.psnr_db >= MIN_PSNR_DB


def difference(output: str, got: Array, golden: Array) -> Difference:
    """The largest error, and the PSNR against the golden output's largest absolute value.

    Not finite where the golden output is, or in another shape, is infinitely far. Integers and booleans must be equal.
    """
    if got.shape != golden.shape:
        return Difference(output, math.inf, -math.inf)
    same = (got == golden) | (np.isnan(got) & np.isnan(golden))
    if same.all():
        return Difference(output, 0.0, math.inf)
    wide, reference = got.astype(np.float64), golden.astype(np.float64)
    with np.errstate(invalid="ignore"):  # ∞ − ∞, where both are the same
        error = np.where(same, 0.0, np.abs(wide - reference))
    error = np.where(np.isnan(error), np.inf, error)
    scale = float(np.abs(reference[np.isfinite(reference)]).max(initial=0.0))
    mean_square = float(np.mean(error**2))
    is_exact_type = golden.dtype.kind in "biu"
    has_psnr = scale > 0 and math.isfinite(mean_square) and not is_exact_type
    return Difference(output, float(error.max()), 10 * math.log10(scale**2 / mean_square) if has_psnr else -math.inf)
