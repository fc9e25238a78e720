"""What an engine is: opens one variant of a block and runs it on named NumPy arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from tm_export.runtime.manifest import TensorSpec, Variant

Array = np.ndarray[Any, np.dtype[Any]]


class EngineError(ValueError):
    """An artifact that cannot be opened or run, or inputs that do not fit it."""


class EngineUnavailable(EngineError):
    """This machine cannot run the engine at all."""


class Session(ABC):
    """One opened variant. Use it as a context manager, or call `close`."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self._is_open = True

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the variant once.

        Args:
            inputs: One array for each of `variant.inputs`, with exactly its dtype and shape.

        Returns:
            One array (the caller's own) for each of `variant.outputs`.

        Raises:
            EngineError: the session is closed, an input is missing, unknown or of another dtype or shape,
                or the engine fails or gives something else than the variant promises.
        """
        if not self._is_open:
            raise EngineError(f"the session of {self.variant.artifact} is closed; open it again")
        self._check("input", self.variant.inputs, inputs)
        outputs = self._run(inputs)
        self._check("output", self.variant.outputs, outputs)
        return outputs

    def close(self) -> None:
        """Gives the memory back; a second call does nothing."""
        if self._is_open:
            self._is_open = False
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs on inputs that have been checked."""

    @abstractmethod
    def _release(self) -> None:
        """Drops what the engine holds."""

    def _check(self, kind: str, specs: tuple[TensorSpec, ...], arrays: Mapping[str, Array]) -> None:
        where = f"{self.variant.artifact} ({self.variant.function})"
        names = {spec.name for spec in specs}
        if names != set(arrays):
            raise EngineError(
                f"{kind}s of {where} must be {sorted(names)}; got {sorted(arrays)}"
                f" (missing {sorted(names - set(arrays))}, unknown {sorted(set(arrays) - names)})"
            )
        for spec in specs:
            array = arrays[spec.name]
            if not isinstance(array, np.ndarray):
                raise EngineError(f"{kind} {spec.name!r} of {where} must be a NumPy array, got {type(array).__name__}")
            if array.dtype.name != spec.dtype or array.shape != spec.shape:
                raise EngineError(
                    f"{kind} {spec.name!r} of {where} must be {spec.dtype}{list(spec.shape)}, "
                    f"got {array.dtype.name}{list(array.shape)}"
                )


class Engine(Protocol):
    """What executes a block."""

    @property
    def name(self) -> str:
        """How reports call this engine."""

    @property
    def version(self) -> str:
        """The version of the library that does the work."""

    def open(self, artifact: Path, variant: Variant) -> Session:
        """Loads the artifact and makes `variant.function` ready to run.

        Raises:
            EngineUnavailable: not on this machine.
            EngineError: the artifact cannot be loaded; the message says why.
        """


def require_artifact(artifact: Path) -> None:
    """Raises EngineError unless the artifact is there: engines' own messages do not say so plainly."""
    if not artifact.exists():
        raise EngineError(f"{artifact} does not exist; export again, or name another bundle")
