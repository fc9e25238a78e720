"""Builds a bundle's folder out of sight, and moves it into place only when it is whole."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tm_export.exporters.errors import UsageError
from tm_export.runtime.manifest import MANIFEST_NAME

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_FOLDER = (errno.ENOTDIR, errno.EEXIST)


@contextmanager
def staged(place: Path, *, force: bool) -> Iterator[Path]:
    """An empty folder to fill, which becomes `place` at the end; an error or Ctrl-C leaves nothing changed.

    It is hidden, and beside `place`, so that the move is one rename on one file system. What was at `place`
    is replaced, if `refuse_foreign_folder` lets it be.

    Raises:
        UsageError: `place` holds something else than a bundle, cannot be written, or the disk is full.
    """
    refuse_foreign_folder(place, force=force)
    with _explain_storage_errors(place):
        target = place.resolve()  # what a link leads to is replaced, and the link stays
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent, ignore_cleanup_errors=True) as hidden:
            staging = Path(hidden) / "new"
            staging.mkdir()
            yield staging
            _flush_to_disk(staging)
            _swap(staging, target, Path(hidden) / "old")
            _flush(target.parent)


def refuse_foreign_folder(place: Path, *, force: bool) -> None:
    """Raise `UsageError` if something is at `place` that is no bundle; `force` gives up any folder."""
    if not place.exists():
        return
    if not place.is_dir():
        raise UsageError(f"{place} is a file, not a folder: move it, or choose another folder with -o")
    if not force and any(place.iterdir()) and not _is_bundle(place):
        raise UsageError(
            f"{place} exists and is no tm-export bundle: choose another folder with -o, or replace it with --force"
        )


def _is_bundle(folder: Path) -> bool:
    """Whether any version of tm-export wrote it: other tools have a `manifest.json` as well."""
    try:
        manifest = json.loads((folder / MANIFEST_NAME).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and "tm-export" in manifest.get("tool_versions", ())


def _swap(staging: Path, place: Path, old: Path) -> None:
    replaced = place.exists()
    if replaced:
        place.rename(old)
    try:
        staging.rename(place)
    except BaseException:
        if replaced:
            old.rename(place)
        raise


def _flush_to_disk(folder: Path) -> None:
    for path in folder.rglob("*"):
        _flush(path)
    _flush(folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explain_storage_errors(place: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        if _is_full(error):
            raise UsageError(
                f"no space is left for {place}: make room, or choose a folder on another disk with -o"
            ) from error
        if code in _NOT_WRITABLE:
            raise UsageError(
                f"{place} cannot be written ({os.strerror(code)}): make its folder writable, or choose another with -o"
            ) from error
        if code in _NO_FOLDER:
            raise UsageError(f"{place.parent} is no folder ({os.strerror(code)}): choose another with -o") from error
        raise


def _is_full(error: BaseException | None) -> bool:
    """Whether the disk ran full; libraries that write from C++ or Rust say so only in their message."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            return True
        if os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
