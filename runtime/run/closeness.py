"""How far an array is from the one that it should be: the one comparison that exporting and running share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Difference:
    """How far a result is from its reference.

    Attributes:
        max_abs_error: the largest difference of two numbers; infinite for another shape, and where just one is finite.
        relative_error: that, over the largest magnitude in the reference.
        psnr_db: against that magnitude; None where the two are equal, -inf where there is none to reckon with.
        is_exact: whether the reference holds integers or truth values, of which none may differ.
    """

    max_abs_error: float
    relative_error: float
    psnr_db: float | None
    is_exact: bool

    def within(self, max_relative_error: float, min_psnr_db: float) -> bool:
        """Whether both bounds hold; integers and truth values have to be equal whatever the bounds."""
        if self.is_exact:
            return self.max_abs_error == 0
        return self.relative_error <= max_relative_error and (self.psnr_db is None or self.psnr_db >= min_psnr_db)


def difference(result: Array, reference: Array) -> Difference:
    """Compare two arrays; anything that is not finite where the reference is, is infinitely far."""
    is_exact = reference.dtype.kind in "biu"
    if result.shape != reference.shape:
        return Difference(math.inf, math.inf, -math.inf, is_exact)
    if is_exact and result.dtype.kind in "biu":
        return _of_integers(result, reference)
    result, reference = result.astype(np.float64), reference.astype(np.float64)
    same = (result == reference) | (np.isnan(result) & np.isnan(reference))
    with np.errstate(invalid="ignore"):  # ∞ − ∞, where both are the same
        error = np.where(same, 0.0, np.abs(result - reference))
    error = np.where(np.isnan(error), np.inf, error)
    worst = float(error.max(initial=0.0))
    if worst == 0.0:
        return Difference(0.0, 0.0, None, is_exact)
    scale = float(np.abs(reference[np.isfinite(reference)]).max(initial=0.0))
    relative = worst / scale if scale else math.inf
    mean_square = float(np.mean(error**2))
    psnr = 10 * math.log10(scale**2 / mean_square) if scale and math.isfinite(mean_square) else -math.inf
    return Difference(worst, relative, psnr, is_exact)


def _of_integers(result: Array, reference: Array) -> Difference:
    """In Python's integers where they differ: in float64 two of 64 bits can look the same."""
    differing = result != reference
    if not differing.any():
        return Difference(0.0, 0.0, None, True)
    worst = max(abs(int(a) - int(b)) for a, b in zip(result[differing], reference[differing], strict=True))
    scale = max((abs(int(value)) for value in (reference.min(), reference.max())), default=0)
    return Difference(float(worst), worst / scale if scale else math.inf, -math.inf, True)
