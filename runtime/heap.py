"""How the C library takes memory from the operating system and gives it back."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
from collections.abc import Callable
from typing import Final

_MMAP_THRESHOLD: Final = -3
"""The parameter's number in malloc.h."""

_TUNABLES: Final = "GLIBC_TUNABLES"


def restart_with_huge_pages() -> None:
    """Starts this program anew, with pages of 2 MB for large tensors; does nothing the second time, or without glibc.

    A tensor that is mapped by itself (`keep_no_large_blocks`) costs a fault for each of its pages. Measured, the first
    run of an STDiT3 block at 2 × 2800 tokens on one thread: 715,000 faults and 4.4 s with pages of 4 kB, 81,000 and
    3.6 s with these, in as much memory. glibc reads its setting only when a program starts. Whoever has set
    `GLIBC_TUNABLES` has chosen.
    """
    if platform.libc_ver()[0] == "glibc" and _TUNABLES not in os.environ and sys.executable:
        environment = os.environ | {_TUNABLES: "glibc.malloc.hugetlb=1"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def give_back_free_memory() -> None:
    """Makes the C library hand freed pages back at once (glibc; others do so by themselves, or cannot).

    Without it, what closed blocks took stays in the process's resident set: measured, up to 160 MB after closing
    ExecuTorch blocks of 100 MB in turn, none with it.
    """
    _trim()(0)


def keep_no_large_blocks() -> None:
    """Makes the C library map every allocation of a megabyte and more by itself, and unmap it when it is freed (glibc).

    It would otherwise learn to take tensors of up to 32 MB from its heap, where they leave holes: measured, 1160 MB
    for a run that then took 780.
    """
    try:
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 1 << 20)
    except (OSError, AttributeError, TypeError):
        return


@functools.cache
def _trim() -> Callable[[int], int]:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return lambda pad: 0
    return trim
