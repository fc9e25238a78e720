"""Asks the OS to forget a bundle's files, so that the next load of them is a cold one; and proves that it did."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tm_export.runtime.measure.report_terms import PageCache

# A page or two may be read again by a process that looks at the folder meanwhile.
_MAY_REMAIN: Final = 0.01


def drop_page_cache(files: Iterable[Path]) -> PageCache:
    """Drops the files from the OS's page cache; they must not be mapped or open elsewhere.

    This is posix_fadvise(POSIX_FADV_DONTNEED) after an fsync, since changed pages are not dropped. It does not reach
    caches below the OS: those of the drive, or of a virtual machine's host.

    Returns:
        `dropped` if mincore then finds less than a hundredth of the files in memory, `kept` if it finds more (files in
        memory file systems, files in use), `unknown` where the OS has no such calls.
    """
    paths = tuple(files)
    if not hasattr(os, "posix_fadvise"):
        return "unknown"
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    size = sum(path.stat().st_size for path in paths)
    return "dropped" if sum(map(cached_bytes, paths)) <= max(_MAY_REMAIN * size, 0) else "kept"


def cached_bytes(file: Path) -> int:
    """How many bytes of a file are in the OS's page cache, in whole pages (mincore; Linux)."""
    size = file.stat().st_size
    if size == 0:
        return 0
    resident = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    # A private copy-on-write mapping: ctypes wants to be able to write, nothing is written.
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), size, access=mmap.ACCESS_COPY) as mapped:
        first = ctypes.c_char.from_buffer(mapped)
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.mincore(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(size), resident)
        del first  # it holds the mapping open
    if failed:
        raise OSError(ctypes.get_errno(), f"mincore fails for {file}")
    return min(size, sum(page & 1 for page in resident) * mmap.PAGESIZE)
