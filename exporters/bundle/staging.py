"""Builds a bundle's folder out of sight, and moves it into place only when it is whole.

It is hidden and beside its place, so that the move is one rename on one file system. What an export had finished
when it was killed is still there when the same command is run again.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tm_export.exporters.convert.journal import Journal
from tm_export.exporters.errors import ExportError, UsageError
from tm_export.runtime.manifest import MANIFEST_NAME

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_FOLDER = (errno.ENOTDIR, errno.EEXIST)


@dataclass(frozen=True)
class Staging:
    """Where an export works: the bundle that is to be, and a place for what is not part of it."""

    bundle: Path
    scratch: Path

    @property
    def journal(self) -> Journal:
        """What has been finished of the bundle."""
        return Journal(self.scratch / "journal", self.bundle)


@contextmanager
def staged(place: Path, *, force: bool, resume: bool) -> Iterator[Staging]:
    """A folder to fill, which becomes `place` at the end; an error or Ctrl-C leaves `place` as it was.

    What was at `place` is replaced, if `refuse_foreign_folder` lets it be. If the export is interrupted or the disk
    full, finished steps stay for the next try, unless that does not `resume`.

    Raises:
        UsageError: `place` holds something else than a bundle, cannot be written, the disk is full, or another
            export to it is running.
    """
    refuse_foreign_folder(place, force=force)
    with _explain_storage_errors(place):
        target = place.resolve()  # what a link leads to is replaced, and the link stays
        hidden = target.parent / f".{target.name}.partial"
        _make(hidden, place)
        with _locked(hidden, place):
            _put_back(hidden / "old", target)
            staging = _opened(hidden, resume=resume)
            try:
                yield staging
                _flush_to_disk(staging.bundle)
                _swap(staging.bundle, target, hidden / "old")
            except BaseException as error:
                refused = isinstance(error, ExportError) and not _is_full(error)
                if refused or not resume or not staging.journal.holds_anything():
                    shutil.rmtree(hidden, ignore_errors=True)
                raise
            shutil.rmtree(hidden, ignore_errors=True)
            _flush(target.parent)


def _make(hidden: Path, place: Path) -> None:
    try:
        hidden.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # a file system that takes no folders, such as /proc
        raise _not_writable(place, error) from error


@contextmanager
def _locked(hidden: Path, place: Path) -> Iterator[None]:
    """Keep other exports away from the same place; the lock goes with the process."""
    with (hidden / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another export to {place} is running: wait for it, or choose another folder with -o"
            ) from None
        yield


def _opened(hidden: Path, *, resume: bool) -> Staging:
    """The folder's contents, with nothing in it but what can be gone on with."""
    staging = Staging(hidden / "new", hidden / "work")
    if not resume:
        shutil.rmtree(staging.bundle, ignore_errors=True)
        shutil.rmtree(staging.scratch, ignore_errors=True)
    for path in staging.scratch.glob("*"):
        if path != staging.journal.folder:
            shutil.rmtree(path)
    staging.bundle.mkdir(exist_ok=True)
    staging.scratch.mkdir(exist_ok=True)
    return staging


def _put_back(old: Path, target: Path) -> None:
    """Undo or finish a swap that was interrupted between its two moves."""
    if old.exists() and not target.exists():
        old.rename(target)
    shutil.rmtree(old, ignore_errors=True)


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
            assert isinstance(error, OSError)
            raise _not_writable(place, error) from error
        if code in _NO_FOLDER:
            raise UsageError(f"{place.parent} is no folder ({os.strerror(code)}): choose another with -o") from error
        raise


def _not_writable(place: Path, error: OSError) -> UsageError:
    why = os.strerror(error.errno or 0)
    return UsageError(f"{place} cannot be written ({why}): make its folder writable, or choose another with -o")


def _is_full(error: BaseException | None) -> bool:
    """Whether the disk ran full; libraries that write from C++ or Rust say so only in their message."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            return True
        if os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
