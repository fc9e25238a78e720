"""What an engine is: opens one variant of a block and runs it on named NumPy arrays."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from tm_export.runtime.engines.footprint import Footprint
from tm_export.runtime.errors import REFUSED, UserError
from tm_export.runtime.manifest import Block, TensorSpec, Variant

Array = np.ndarray[Any, np.dtype[Any]]


class EngineError(UserError):
    """An artifact that cannot be opened or run, or inputs that do not fit it."""

    exit_code = REFUSED


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
        where = f"{self.variant.artifact} ({self.variant.function})"
        require_fit("input", where, self.variant.inputs, inputs)
        outputs = self._run(inputs)
        require_fit("output", where, self.variant.outputs, outputs)
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


class Engine(Protocol):
    """What executes a block."""

    @property
    def name(self) -> str:
        """How reports call this engine."""

    @property
    def version(self) -> str:
        """The version of the library that does the work."""

    @property
    def loads_while_running(self) -> bool:
        """Whether one thread can open a session while another runs one."""

    def footprint(self, block: Block, variant: Variant) -> Footprint:
        """The memory that one variant of a block is reckoned to take; each engine says how it was measured.

        No engine here keeps two variants of a block open in the memory of one: each takes this much.
        """

    def open(self, artifact: Path, variant: Variant) -> Session:
        """Loads the artifact and makes `variant.function` ready to run.

        Raises:
            EngineUnavailable: not on this machine.
            EngineError: the artifact cannot be loaded; the message says why.
        """


@dataclass(frozen=True)
class Engines:
    """The engines of a target on this machine.

    `run` are those that run its blocks, the device's own first; `as_apps_open` the same, as an app would open a file
    that it knows nothing of: exports are verified on both.
    """

    run: tuple[Engine, ...]
    as_apps_open: tuple[Engine, ...] = ()


def require_fit(kind: str, where: str, specs: tuple[TensorSpec, ...], arrays: Mapping[str, Array]) -> None:
    """Raises EngineError unless there is an array for each spec, of its dtype and shape, and no other.

    `kind` is `input` or `output`, `where` says of what.
    """
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


def bytes_of(specs: tuple[TensorSpec, ...]) -> int:
    """What arrays of these dtypes and shapes take."""
    return sum(math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in specs)


def require_artifact(artifact: Path) -> None:
    """Raises EngineError unless the artifact is there: engines' own messages do not say so plainly."""
    if not artifact.exists():
        raise EngineError(f"{artifact} does not exist; export again, or name another bundle")
