"""The calls that the table says are right on every target."""

from __future__ import annotations

from typing import Final

import table
from calls import Call
from registry import OPERATORS

TOGETHER: Final = 64
"""How many make one program."""


def right_everywhere() -> list[tuple[Call, ...]]:
    """All calls that every target computes rightly, so many to a program."""
    others = {(row.operator, call) for row in table.read() for call, _ in (*row.refused, *row.limits)}
    calls = [each for name, own in OPERATORS.items() for each in own if (name, str(each)) not in others]
    return [tuple(calls[i : i + TOGETHER]) for i in range(0, len(calls), TOGETHER)]
