"""Sizes as people write them on a command line."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

UNITS: Final = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
"""Decimal units, and the binary ones with an i."""

_FACTORS: Final = {unit.lower(): factor for unit, factor in UNITS.items()}
_SIZE: Final = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>[A-Za-z]+)", re.ASCII)


class SizeError(ValueError):
    """A text that is no size."""


def parse_size(text: str) -> int:
    """The bytes that a text such as `1.2GB`, `200 MB` or `512MiB` means, rounded down.

    Letters may be of either case; a unit must stand there, since a bare number is easily a slip.

    Raises:
        SizeError: no number, a negative number, zero, less than a byte, or no known unit.
    """
    match = _SIZE.fullmatch(text.strip())
    factor = _FACTORS.get(match["unit"].lower()) if match else None
    if match is None or factor is None:
        raise SizeError(
            f"{text!r} is no size: write a positive number and a unit, such as 1.2GB; units are {', '.join(UNITS)}"
        )
    size = int(Fraction(match["number"].rstrip(".")) * factor)
    if size < 1:
        raise SizeError(f"{text!r} is less than one byte: write a larger size, such as 1.2GB")
    return size


def parse_budget(text: str) -> int | None:
    """As `parse_size`; `none` means that there is no bound, and gives None.

    Raises:
        SizeError: the text is neither `none` nor a size.
    """
    if text.strip().lower() == "none":
        return None
    try:
        return parse_size(text)
    except SizeError as error:
        raise SizeError(f"{error}; or write none for no bound") from None
