"""What every run of a bundle needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tm_export.runtime.engines.base import Engine
from tm_export.runtime.manifest import Manifest


@dataclass(frozen=True)
class Machinery:
    """A bundle, what runs it, how much memory the process may take, and how many calls ahead blocks are loaded."""

    bundle_dir: Path
    manifest: Manifest
    engine: Engine
    memory_budget: int | None = None
    prefetch_depth: int = 1
