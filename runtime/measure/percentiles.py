"""Percentiles, by the one definition that every report here uses."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(samples: Sequence[float], percent: float) -> float:
    """The percentile of the samples, in their unit; they need not be sorted.

    With the n samples sorted, x[0] ≤ … ≤ x[n−1], it stands at position (n − 1) · percent / 100, between two samples on
    the straight line that joins them. That is definition 7 of Hyndman and Fan, "Sample Quantiles in Statistical
    Packages", The American Statistician 50 (1996), and NumPy's default. With n samples, percentiles above
    100 · (1 − 1/n) say little more than the largest sample.

    Raises:
        ValueError: no samples, or `percent` is not between 0 and 100.
    """
    if not samples:
        raise ValueError("no samples: there is no percentile of nothing")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent is {percent}; it must be between 0 and 100")
    ordered = sorted(samples)
    position = (len(ordered) - 1) * percent / 100
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    share = position - low
    return ordered[low] * (1 - share) + ordered[high] * share
