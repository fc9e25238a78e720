"""`manifest.json` on disk: written, read and checked."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tm_export.runtime.manifest.document import SCHEMA_VERSION, BundleError, Manifest, refuse_duplicates
from tm_export.runtime.manifest.seal import MANIFEST_NAME, SEAL_NAME, seal_of


def manifest_json(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`: equal manifests give equal bytes (sorted keys, UTF-8, final newline)."""
    return _deterministic_json(manifest.model_dump(mode="json"))


def manifest_schema() -> bytes:
    """The JSON Schema of `manifest.json`, as committed in `runtime/manifest/manifest.schema.json`."""
    return _deterministic_json(Manifest.model_json_schema(mode="serialization"))


def _deterministic_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_manifest(bundle_dir: Path) -> Manifest:
    """Reads and checks `manifest.json` of a bundle; files are not looked at (see `verify_files`).

    Raises:
        BundleError: it is missing, no JSON, of another schema version, or inconsistent.
    """
    path = bundle_dir / MANIFEST_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BundleError(
            f"{path} does not exist: {bundle_dir} is no bundle, or its export was interrupted; export again"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} cannot be read ({error}); export again") from None
    try:
        value = json.loads(text, object_pairs_hook=_object_without_duplicates)
    except ValueError as error:
        raise BundleError(f"{path} is not valid JSON ({error}); export again") from None
    version = value.get("schema_version") if isinstance(value, dict) else None
    if type(version) is not int or version != SCHEMA_VERSION:
        raise BundleError(
            f"{path} has schema version {version!r}, this tool reads {SCHEMA_VERSION}: "
            "export again with this version, or use the version that wrote it"
        )
    try:
        manifest = Manifest.model_validate_json(text)
        _check_host(manifest)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'manifest'}: {problem['msg']}" for problem in error.errors()
        )
        raise BundleError(f"{path} is not a valid manifest ({problems}); export again") from None
    return manifest


def _check_host(manifest: Manifest) -> None:
    """Raise `ValidationError` if the host's contract is not what its kind says; a kind that is not known is let be."""
    if manifest.host is not None:
        for entry in entry_points(group="tm_export.hosts", name=manifest.host.kind):
            entry.load().model_validate(manifest.host.model_dump())


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    refuse_duplicates("key", (key for key, _ in pairs))
    return dict(pairs)


def write_manifest(bundle_dir: Path, manifest: Manifest) -> None:
    """Writes `manifest.sha256` and then, last of a bundle's files, `manifest.json`."""
    content = manifest_json(manifest)
    (bundle_dir / SEAL_NAME).write_bytes(seal_of(content))
    (bundle_dir / MANIFEST_NAME).write_bytes(content)
