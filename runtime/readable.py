"""Times and sizes as people read them."""

from __future__ import annotations


def in_milliseconds(milliseconds: float | None) -> str:
    """A time with three significant digits in the unit that suits it, such as `850 µs`, `12.3 ms`, `4.56 s`."""
    if milliseconds is None:
        return "-"
    if milliseconds >= 999.5:
        return f"{_three_digits(milliseconds / 1e3)} s"
    if milliseconds >= 0.9995 or milliseconds == 0:
        return f"{_three_digits(milliseconds)} ms"
    return f"{_three_digits(milliseconds * 1e3)} µs"


def in_bytes(count: int | None) -> str:
    """A size in decimal units, as memory budgets are given: `1.2 GB`."""
    if count is None:
        return "-"
    value: float = count
    unit = "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{_three_digits(value)} {unit}"


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
