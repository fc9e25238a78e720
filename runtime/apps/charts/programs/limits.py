"""How large a program and its values may be, so that none takes a second or 64 MB.

A program of TinyChart has about five steps and a few hundred characters. Every bound leaves room for twenty times that.
"""

from __future__ import annotations

import time
from typing import Final

from tm_export.runtime.apps.charts.programs.errors import ProgramRefused

MOST_TEXT: Final = 65_536
"""Characters of the model's text."""

MOST_STEPS: Final = 200
MOST_SOURCE: Final = 16_384
"""Characters of all steps together."""

MOST_LINE: Final = 4_096
"""Characters of one step."""

MOST_WORD: Final = 310
"""Characters of a name or a number in the source."""

MOST_BRACKETS: Final = 12
"""Brackets that are open at once."""

MOST_NESTED_TOKENS: Final = 250
"""Tokens that can lie within each other: those since the last comma, in each bracket that is open, together."""

MOST_DEPTH: Final = 64
"""Depth of a step's syntax tree."""

MOST_OPERATIONS: Final = 20_000
"""What a program may spend. Everything that is made is paid for, and nothing is given back when it is dropped, so that
this bounds memory as well: no operation leaves more than a few hundred bytes behind."""

MOST_ELEMENTS: Final = 2_000
"""Elements of one collection, with those of the collections in it."""

MOST_KEYS: Final = 256
"""Elements of a set or a dict: keys with equal hashes make them slow."""

MOST_NESTED_VALUES: Final = 8
"""Collections within each other."""

MOST_CHARACTERS: Final = 1_000
"""Characters of one string, and of the answer."""

MOST_BITS: Final = 1_024
"""Bits of one integer."""

MOST_DIGITS: Final = 30
"""Digits before or after the point that a number can be rounded to."""

MOST_SECONDS: Final = 0.5
"""Of wall clock: the last resort, on a machine too slow for `MOST_OPERATIONS`."""

CHARACTERS_PER_OPERATION: Final = 8


class Meter:
    """Counts what one program spends."""

    def __init__(self) -> None:
        self._spent = 0
        self._end = time.monotonic() + MOST_SECONDS

    def spend(self, operations: int) -> None:
        """Pays for operations.

        Raises:
            ProgramRefused: they are too many, or the time is up.
        """
        self._spent += operations
        if self._spent > MOST_OPERATIONS:
            raise ProgramRefused(f"the program takes more than {MOST_OPERATIONS} operations")
        if time.monotonic() > self._end:
            raise ProgramRefused(f"the program takes more than {MOST_SECONDS} seconds")


def check_elements(count: int) -> None:
    """Raises ProgramRefused if a collection of so many elements is too large."""
    if count > MOST_ELEMENTS:
        raise ProgramRefused(f"a collection has more than {MOST_ELEMENTS} elements")


def check_keys(count: int) -> None:
    """Raises ProgramRefused if a set or a dict of so many elements is too large."""
    if count > MOST_KEYS:
        raise ProgramRefused(f"a set or dict has more than {MOST_KEYS} elements")


def check_characters(count: int) -> None:
    """Raises ProgramRefused if a string of so many characters is too long."""
    if count > MOST_CHARACTERS:
        raise ProgramRefused(f"a string has more than {MOST_CHARACTERS} characters")


def check_bits(count: int) -> None:
    """Raises ProgramRefused if an integer of so many bits is too large."""
    if count > MOST_BITS:
        raise ProgramRefused(f"an integer has more than {MOST_BITS} bits")


def check_digits(digits: int) -> None:
    """Raises ProgramRefused if a number cannot be rounded to so many digits."""
    if abs(digits) > MOST_DIGITS:
        raise ProgramRefused(f"a number is rounded to more than {MOST_DIGITS} digits")
