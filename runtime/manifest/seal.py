"""How a manifest and the files that it names are proved whole."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from tm_export.runtime.manifest.document import BundleError, FileEntry, Manifest

MANIFEST_NAME: Final = "manifest.json"

SEAL_NAME: Final = "manifest.sha256"
"""The SHA-256 of `manifest.json`, as `sha256sum` writes it and checks it: a manifest proves all files but itself."""


def seal_of(content: bytes) -> bytes:
    """The bytes of `manifest.sha256` beside a `manifest.json` of these bytes."""
    return f"{hashlib.sha256(content).hexdigest()}  {MANIFEST_NAME}\n".encode()


def verify_files(bundle_dir: Path, manifest: Manifest) -> None:
    """Proves that the manifest is the one that was written, and every file of it as it says: size and SHA-256.

    Raises:
        BundleError: a file is missing, differs, cannot be read, or leads (through a link) outside the bundle.
    """
    _verify_seal(bundle_dir)
    root = bundle_dir.resolve()
    for entry in manifest.files:
        path = bundle_dir / entry.path
        try:
            _verify_file(root, path, entry)
        except (OSError, RuntimeError) as error:  # the latter for links that lead in a circle
            raise BundleError(f"{path} cannot be read ({error}); copy it again, or export again") from None


def _verify_seal(bundle_dir: Path) -> None:
    path, seal = bundle_dir / MANIFEST_NAME, bundle_dir / SEAL_NAME
    try:
        is_sealed = seal.read_bytes() == seal_of(path.read_bytes())
    except OSError as error:
        raise BundleError(
            f"{error.filename} cannot be read ({error.strerror}); copy it again, or export again"
        ) from None
    if not is_sealed:
        raise BundleError(f"{path} and {seal.name} disagree: one of them is damaged; copy both again, or export again")


def _verify_file(root: Path, path: Path, entry: FileEntry) -> None:
    if not path.resolve().is_relative_to(root):
        raise BundleError(f"{path} leads outside the bundle to {path.resolve()}; remove the link and export again")
    if not path.is_file():
        raise BundleError(f"{path} is missing; copy the whole bundle, or export again")
    size = path.stat().st_size
    if size != entry.bytes:
        raise BundleError(f"{path} has {size} bytes, the manifest says {entry.bytes}; copy it again, or export again")
    digest = file_sha256(path)
    if digest != entry.sha256:
        raise BundleError(
            f"{path} has SHA-256 {digest}, the manifest says {entry.sha256}; copy it again, or export again"
        )


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
