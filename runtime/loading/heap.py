"""Gives freed memory back to the operating system."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


def give_back_free_memory() -> None:
    """Makes the C library hand freed pages back at once (glibc; others do so by themselves, or cannot).

    Without it, what closed blocks took stays in the process's resident set: measured, up to 160 MB after closing
    ExecuTorch blocks of 100 MB in turn, none with it.
    """
    _trim()(0)


@functools.cache
def _trim() -> Callable[[int], int]:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return lambda pad: 0
    return trim
