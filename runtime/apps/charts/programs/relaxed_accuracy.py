"""Whether an answer is right, as ChartQA counts it (arXiv 2203.10244, section 5.1)."""

from __future__ import annotations

import math
from typing import Final

MOST_RELATIVE_ERROR: Final = 0.05


def relaxed_accuracy(prediction: str, truth: str) -> bool:
    """Whether the prediction is within 5 % of a truth that is a number, or else the same text, ignoring case.

    The error is relative to the absolute value of the truth; a truth of 0 must be met exactly. `12%` is 0.12, as
    commonly computed for ChartQA. What is infinite or NaN is text.
    """
    predicted, true = _number(prediction), _number(truth)
    if predicted is None or true is None:
        return prediction.strip().lower() == truth.strip().lower()
    return abs(predicted - true) <= MOST_RELATIVE_ERROR * abs(true)


def published_relaxed_accuracy(prediction: str, truth: str) -> bool:
    """The same as TinyChart's own evaluation computes it, to compare with its figures; not for use.

    The error is divided by the truth with its sign, so that every number is right if the truth is negative. Text must
    agree in case, and `12%` is text.
    """
    try:
        predicted, true = float(prediction), float(truth)
    except ValueError:
        return prediction == truth
    if true == 0:
        return predicted == true
    return abs(predicted - true) / true <= MOST_RELATIVE_ERROR


def _number(text: str) -> float | None:
    text = text.strip()
    digits = text.removesuffix("%")
    try:
        value = float(digits)
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    return value / 100 if digits != text else value
