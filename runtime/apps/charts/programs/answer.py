"""From the value of `Answer` to the text that is shown and compared."""

from __future__ import annotations

import math
from typing import Final

from tm_export.runtime.apps.charts.programs.errors import ProgramFailed
from tm_export.runtime.apps.charts.programs.limits import check_characters
from tm_export.runtime.apps.charts.programs.values import Array, Distinct, Value, is_scalar, items_of, name_of_type

DIGITS: Final = 4
"""After the point: that of the published demo."""

_MOST_PLAIN: Final = 1e16
"""From here on Python writes whole floats with an exponent, and so do we."""


def answer_text(value: Value) -> str:
    """The answer in words: of one value as it is, of several as "a, b and c".

    Booleans are "Yes" and "No". Floats are rounded to four digits, and whole ones written without a point: 12, not the
    demo's 12.0, which the metric takes for the same.

    Raises:
        ProgramFailed: it is infinite, not a number, None, a dict, an empty collection or one of collections.
        ProgramRefused: the text would be too long.
    """
    if not isinstance(value, list | tuple | Array | Distinct):
        return _text_of_one(value)
    texts = [_text_of_one(item) for item in items_of(value)]
    if not texts:
        raise ProgramFailed("Answer is empty")
    check_characters(sum(len(text) + len(", ") for text in texts))
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _text_of_one(value: Value) -> str:
    if not is_scalar(value):
        raise ProgramFailed(f"Answer holds {name_of_type(value)}, which is no answer")
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if isinstance(value, float):
        return _text_of_float(value)
    return str(value)


def _text_of_float(value: float) -> str:
    if not math.isfinite(value):
        raise ProgramFailed(f"Answer is not finite: {value}")
    rounded = round(value, DIGITS)
    return str(int(rounded)) if rounded.is_integer() and abs(rounded) < _MOST_PLAIN else str(rounded)
