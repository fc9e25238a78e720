"""What a user states: how many places a selection by a mask gets, by its line or everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tm_export.exporters.errors import UsageError

_EXAMPLE: Final = "give a number, or a line and a number, such as my_model.py:18=48"


@dataclass(frozen=True)
class Capacities:
    """The most that a selection by a mask may choose.

    Attributes:
        everywhere: for each selection whose count is not known and that has no capacity of its own.
        by_line: by `file.py:18`.
    """

    everywhere: int | None = None
    by_line: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is no number of places."""
        for value in (self.everywhere, *(value for _, value in self.by_line)):
            if value is not None and value < 2:
                raise UsageError(f"capacity {value} is too small: give at least 2 (for one token, take the argmax)")

    def __bool__(self) -> bool:
        return self.everywhere is not None or bool(self.by_line)


NO_CAPACITIES: Final = Capacities()


def parse_capacities(values: Sequence[str]) -> Capacities:
    """Capacities from texts such as "48" and "my_model.py:18=48".

    Raises `UsageError` for a text that is neither, and for two that are for the same.
    """
    by_line: dict[str, int] = {}
    for value in values:
        line, _, number = value.rpartition("=")
        if not number.isdecimal() or (line and not line.rpartition(":")[2].isdecimal()):
            raise UsageError(f"--capacity {value!r} is none: {_EXAMPLE}")
        if line in by_line:
            raise UsageError(f"--capacity is given twice for {line or 'all lines'}: give it once")
        by_line[line] = int(number)
    everywhere = by_line.pop("", None)
    return Capacities(everywhere, tuple(by_line.items()))


def capacities_of(given: int | Mapping[str, int] | None) -> Capacities:
    """Capacities from a number, or numbers by line."""
    return Capacities(None, tuple(given.items())) if isinstance(given, Mapping) else Capacities(given)


def line_of(place: str) -> str:
    """`file.py:18` of `file.py:18: code`."""
    return ":".join(place.split(":")[:2])
