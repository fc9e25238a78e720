"""Numbers as people read them."""

from __future__ import annotations


def in_bytes(count: int) -> str:
    """A size in binary units, such as `1.5 GiB`."""
    return _scaled(count, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def in_macs(count: int) -> str:
    """Multiply-adds in decimal units, such as `3.2 GMAC`."""
    return _scaled(count, 1000, ("MAC", "kMAC", "MMAC", "GMAC", "TMAC"))


def in_nanoseconds(nanoseconds: float) -> str:
    """A short time in decimal units, such as `41 µs`."""
    return _scaled(nanoseconds, 1000, ("ns", "µs", "ms", "s"))


def in_seconds(seconds: float) -> str:
    """A time in seconds, and in minutes where it is long: `0.42 s`, `12.3 s`, `2 min 5 s`."""
    if seconds >= 120:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s"


def in_decibels(psnr_db: float | None) -> str:
    """A PSNR; None is the PSNR of two equal tensors."""
    return "∞ (equal)" if psnr_db is None else f"{psnr_db:.1f} dB"


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    unit = units[0]
    for unit in units:
        if abs(value) < step - 0.5 or unit == units[-1]:
            break
        value /= step
    return f"{value:.0f} {unit}" if abs(value) >= 100 or value == int(value) else f"{value:.3g} {unit}"
