"""The engines that execute blocks, found by target."""

from __future__ import annotations

import dataclasses
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

from tm_export.runtime.engines.base import Engine, EngineError, Engines, EngineUnavailable, Session
from tm_export.runtime.manifest import Manifest

__all__ = [
    "Engine",
    "EngineError",
    "EngineUnavailable",
    "Engines",
    "Session",
    "choose_engine",
    "engines_for",
    "engines_to_verify",
    "open_session",
]

GROUP: Final = "tm_export.engines"
"""The entry points that name, by target, a function that gives its `Engines`: their libraries are heavy, and a program
seldom needs more than those of one target."""


def engines_for(target: str) -> tuple[Engine, ...]:
    """The engines that can run a target's blocks on this machine, the device's own first.

    Raises:
        EngineError: unknown target.
    """
    return _engines(target).run


def engines_to_verify(target: str) -> tuple[Engine, ...]:
    """The engines that run a target's blocks, and the same as an app would open a file that it knows nothing of.

    Raises:
        EngineError: unknown target.
    """
    engines = _engines(target)
    return engines.run + engines.as_apps_open


def _engines(target: str) -> Engines:
    for entry in entry_points(group=GROUP, name=target):
        found: Engines = entry.load()()
        return found
    known = sorted({entry.name for entry in entry_points(group=GROUP)})
    raise EngineError(f"no engine runs target {target!r}; targets are {', '.join(known)}")


def choose_engine(target: str, name: str | None = None, threads: int | None = None) -> Engine:
    """The engine of that name for a target, the device's own first; `threads` for one operator, None for its default.

    Raises:
        EngineError: unknown target, no engine of that name on this machine, or one whose threads cannot be chosen.
    """
    engines = engines_for(target)
    found: Any = next((engine for engine in engines if name in (None, engine.name)), None)
    if found is None:
        names = ", ".join(engine.name for engine in engines)
        raise EngineError(f"no engine {name!r} runs target {target!r} on this machine; there are: {names}")
    if threads is None:
        return found  # type: ignore[no-any-return]
    if "threads" not in {field.name for field in dataclasses.fields(found)}:
        raise EngineError(f"the number of threads of engine {found.name} cannot be chosen: leave out the {threads}")
    return dataclasses.replace(found, threads=threads)  # type: ignore[no-any-return]


def open_session(bundle_dir: Path, manifest: Manifest, component: str, block: str, variant: str) -> Session:
    """Opens one variant of a bundle on the first engine of its target.

    Raises:
        BundleError: the manifest has no such component, block or variant.
        EngineError: the engine refuses the artifact.
    """
    chosen = manifest.variant(component, block, variant)
    return engines_for(manifest.target)[0].open(bundle_dir / chosen.artifact, chosen)
