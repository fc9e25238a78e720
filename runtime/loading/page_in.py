"""Reads a block's files into the page cache, so that what maps them finds them in memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tm_export.runtime.engines.base import EngineError

_CHUNK_BYTES: Final = 2**20


def page_in(bundle_dir: Path, files: Iterable[tuple[str, int]]) -> None:
    """Reads each file once, with the interpreter's lock released, and keeps nothing.

    An engine that maps its weights would otherwise wait for the disk in the midst of a run. That each file still has
    its stated size is checked on the way: to map a file that was cut off since would end the process.

    Args:
        bundle_dir: The bundle.
        files: Paths in the bundle, and the bytes that the manifest states.

    Raises:
        EngineError: a file is missing, cannot be read, or has another size; names it.
    """
    buffer = bytearray(_CHUNK_BYTES)
    for name, stated in files:
        path = bundle_dir / name
        size = 0
        try:
            with path.open("rb", buffering=0) as file:
                while count := file.readinto(buffer):
                    size += count
        except OSError as error:
            raise EngineError(
                f"{path} cannot be read ({error.strerror}): it was whole before; copy the bundle again, or export again"
            ) from error
        if size != stated:
            raise EngineError(
                f"{path} has {size} bytes, the manifest says {stated}; copy the bundle again, or export again"
            )
