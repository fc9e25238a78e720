"""What must hold for an artifact to be called good."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tm_export.exporters.options import Precision

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Gate:
    """Bounds on one output: the largest error relative to the output's scale, and the PSNR.

    `tie_margin` is how far apart two scores may lie, relative to the largest score, for an exchange of the
    two to count as rounding.
    """

    name: str
    max_relative_error: float
    min_psnr_db: float
    tie_margin: float


REWRITE: Final = Gate("rewrite: relative error ≤ 1e-4 and PSNR > 70 dB", 1e-4, 70.0, 1e-4)
FP32: Final = Gate("fp32: relative error ≤ 1e-4 and PSNR > 70 dB", 1e-4, 70.0, 1e-4)
FP16: Final = Gate("fp16: PSNR ≥ 40 dB", math.inf, 40.0, 2e-2)


def gate_for(precision: Precision) -> Gate:
    """The gate for artifacts of this precision."""
    return FP32 if precision == "fp32" else FP16


@dataclass(frozen=True)
class Difference:
    """How far a result is from its reference."""

    max_abs_error: float
    relative_error: float
    psnr_db: float | None

    def within(self, gate: Gate) -> bool:
        """Whether both bounds hold."""
        return self.relative_error <= gate.max_relative_error and (
            self.psnr_db is None or self.psnr_db >= gate.min_psnr_db
        )


def difference(result: Array, reference: Array) -> Difference:
    """Compare two arrays of the same shape; anything that is not finite where the reference is, is infinitely far."""
    result, reference = result.astype(np.float64), reference.astype(np.float64)
    both_same = (result == reference) | (np.isnan(result) & np.isnan(reference))
    with np.errstate(invalid="ignore"):  # ∞ − ∞, where both are the same
        error = np.where(both_same, 0.0, np.abs(result - reference))
    error = np.where(np.isnan(error), np.inf, error)
    worst = float(error.max(initial=0.0))
    finite = reference[np.isfinite(reference)]
    scale = float(np.abs(finite).max(initial=0.0))
    if worst == 0.0:
        return Difference(0.0, 0.0, None)
    relative = worst / scale if scale else math.inf
    mean_square = float(np.mean(error**2))
    psnr = 10 * math.log10(scale**2 / mean_square) if scale and math.isfinite(mean_square) else -math.inf
    return Difference(worst, relative, psnr)
