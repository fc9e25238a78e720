"""The engines that execute blocks, found by target."""

from __future__ import annotations

import dataclasses
import importlib
import platform
from pathlib import Path
from typing import Any

from tm_export.runtime.engines.base import Engine, EngineError, EngineUnavailable, Session
from tm_export.runtime.manifest import Manifest

__all__ = [
    "Engine",
    "EngineError",
    "EngineUnavailable",
    "Session",
    "choose_engine",
    "engines_for",
    "engines_to_verify",
    "open_session",
]

# Named, not imported: each engine's libraries are heavy, and a program seldom needs more than one.
_ENGINES = {
    "coreml": (("coreml", "CoreMLEngine"), ("coreml_reference", "CoreMLReferenceEngine")),
    "onnx": (("onnx_runtime", "OnnxRuntimeEngine"),),
    "executorch": (("executorch", "ExecuTorchEngine"),),
}

_AS_APPS_OPEN = {"onnx": (("onnx_runtime", "OnnxRuntimeDefaultEngine"),)}


def engines_for(target: str) -> tuple[Engine, ...]:
    """The engines that can run a target's blocks on this machine, the device's own first.

    Raises:
        EngineError: unknown target.
    """
    if target not in _ENGINES:
        raise EngineError(f"no engine runs target {target!r}; targets are {', '.join(sorted(_ENGINES))}")
    names = [(file, cls) for file, cls in _ENGINES[target] if file != "coreml" or platform.system() == "Darwin"]
    return tuple(getattr(importlib.import_module(f"{__name__}.{file}"), cls)() for file, cls in names)


def engines_to_verify(target: str) -> tuple[Engine, ...]:
    """The engines that run a target's blocks, and the same as an app would open a file that it knows nothing of.

    Raises:
        EngineError: unknown target.
    """
    return engines_for(target) + tuple(
        getattr(importlib.import_module(f"{__name__}.{file}"), cls)() for file, cls in _AS_APPS_OPEN.get(target, ())
    )


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
