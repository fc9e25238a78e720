"""What an export has finished: so that one that was killed goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tm_export.runtime.manifest import file_sha256


@dataclass(frozen=True)
class Journal:
    """Records of finished steps in a folder, each under a key that says all that the step depends on.

    A step is finished when its record is there and the files that it names are as it says. A record is written
    whole or not at all, after the files.
    """

    folder: Path
    root: Path
    """What the files' paths are relative to."""

    def recall(self, key: str) -> Any | None:
        """What was noted with a step, or None if it must be done."""
        try:
            record = json.loads(self._place(key).read_bytes())
            whole = all(_is_whole(self.root / file["path"], file) for file in record["files"])
        except (OSError, ValueError, KeyError, TypeError):  # no record, or half of one
            return None
        return record["note"] if whole else None

    def record(self, key: str, files: Iterable[Path], note: Any) -> None:
        """Note that a step is finished, and what must be known of it to go on."""
        entries = [
            {"path": path.relative_to(self.root).as_posix(), "bytes": path.stat().st_size, "sha256": file_sha256(path)}
            for path in files
        ]
        self.folder.mkdir(parents=True, exist_ok=True)
        place = self._place(key)
        unfinished = place.with_suffix(".unfinished")
        unfinished.write_text(json.dumps({"files": entries, "note": note}))
        unfinished.replace(place)

    def holds_anything(self) -> bool:
        """Whether any step is finished."""
        return any(self.folder.glob("*.json"))

    def _place(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def step_key(*parts: object) -> str:
    """A key for a step that depends on these parts, each with a `repr` that says it all."""
    return hashlib.sha256("\n".join(map(repr, parts)).encode()).hexdigest()[:32]


def _is_whole(path: Path, entry: dict[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == entry["bytes"] and file_sha256(path) == entry["sha256"]
