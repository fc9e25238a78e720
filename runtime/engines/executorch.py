"""Runs ExecuTorch blocks (`.pte`) with ExecuTorch's own runtime."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from executorch.extension.pybindings import portable_lib
from executorch.runtime import Runtime

from tm_export.runtime.engines.base import Array, EngineError, Engines, Session, bytes_of, require_artifact
from tm_export.runtime.engines.footprint import Footprint
from tm_export.runtime.heap import keep_no_large_blocks
from tm_export.runtime.manifest import Block, Variant

_PROGRAM_BYTES: Final = 8 * 2**20
"""What a program and its method take beside weights and planned memory, rounded up."""


@dataclass(frozen=True)
class ExecuTorchEngine:
    """The portable kernels and the delegates that ExecuTorch's package has (XNNPACK; Core ML on macOS).

    `threads` is the size of the pool that all sessions of the process share (default: ExecuTorch's own choice).
    The Python bindings hold the interpreter's lock while they load and while they run, so that neither goes on beside
    the other; ExecuTorch's C++, Swift and Kotlin interfaces have no such bound.
    """

    threads: int | None = None
    name = "executorch"
    version = importlib.metadata.version("executorch")
    loads_while_running = False

    def footprint(self, block: Block, variant: Variant) -> Footprint:
        """The weights and the memory planned for inputs and outputs, held while open; the rest while it runs or loads.

        XNNPACK copies weights into a form of its own, for each method anew, and reads them from mapped pages that are
        given back afterwards: measured, 100 MB of weights take 104 MB when open and 200 MB at the peak of loading. (The
        portable kernels read mapped pages, and keep them.) XNNPACK's workspace is shared by all open blocks, goes back
        when the last is closed, and holds every intermediate tensor of a delegate at once: measured, 11 of 16 MB take
        176 MB. `activation_bytes` must say so; what operators between delegates keep is taken to be part of it too,
        although each open block has its own.
        """
        planned = bytes_of(variant.inputs) + bytes_of(variant.outputs)
        intermediate = max(variant.activation_bytes - planned, 0)
        return Footprint(
            open_bytes=block.weight_bytes + planned + _PROGRAM_BYTES,
            load_bytes=block.weight_bytes + intermediate,  # the workspace stays from run to run
            run_bytes=intermediate + bytes_of(variant.outputs),
        )

    def open(self, artifact: Path, variant: Variant) -> Session:
        """Loads a `.pte` file and one of its methods.

        Raises:
            EngineError: no such method, or the runtime lacks kernels or a delegate that it needs (named).
        """
        require_artifact(artifact)
        keep_no_large_blocks()
        if self.threads not in (None, portable_lib._threadpool_get_thread_count()):
            portable_lib._unsafe_reset_threadpool(self.threads)  # no run goes on: it would hold the lock
        try:
            program = Runtime.get().load_program(artifact)
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"ExecuTorch {self.version} refuses {artifact}: {error}") from error
        if variant.function not in program.method_names:
            raise EngineError(
                f"{artifact} has no method {variant.function!r}; it has {sorted(program.method_names)}; export again"
            )
        try:
            method = program.load_method(variant.function)
        except RuntimeError as error:
            raise EngineError(_why_not_loaded(artifact, variant.function, str(error))) from error
        return _ExecuTorchSession(variant, program, method)


class _ExecuTorchSession(Session):
    def __init__(self, variant: Variant, program: Any, method: Any) -> None:
        super().__init__(variant)
        self._program = program  # owns the memory that the method points into
        self._method = method

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        tensors = [torch.from_numpy(_own(inputs[spec.name])) for spec in self.variant.inputs]
        try:
            results = self._method.execute(tensors)
        except RuntimeError as error:
            raise EngineError(f"ExecuTorch fails in {self.variant.artifact}: {error}") from error
        specs = self.variant.outputs
        if len(results) != len(specs):
            raise EngineError(f"{self.variant.artifact} gives {len(results)} outputs, the manifest names {len(specs)}")
        # A copy: the next run writes into the same memory.
        return {spec.name: np.array(result) for spec, result in zip(specs, results, strict=True)}

    def _release(self) -> None:
        del self._method
        del self._program


def _own(array: Array) -> Array:
    """A contiguous, writable array: what torch can share without a warning."""
    return np.require(array, requirements=["C", "W"])


def _why_not_loaded(artifact: Path, method: str, error: str) -> str:
    operators, delegates = missing_kernels(artifact, method)
    if operators:
        reason = f"its runtime has no kernel for {', '.join(operators)}"
    elif delegates:
        reason = f"its runtime has no delegate {', '.join(delegates)}"
    else:
        return f"ExecuTorch cannot load method {method!r} of {artifact}: {error}"
    return f"ExecuTorch cannot load method {method!r} of {artifact}: {reason} ({error}); export with another lowering"


def missing_kernels(artifact: Path, method: str) -> tuple[list[str], list[str]]:
    """The operators and the delegates that a method needs and this runtime lacks, each sorted.

    Raises:
        EngineError: the file is no ExecuTorch program.
    """
    from executorch.exir._serialize._program import deserialize_pte_binary  # heavy: only for the message

    try:
        plans = deserialize_pte_binary(artifact.read_bytes()).program.execution_plan
    except Exception as error:  # the deserialiser's errors share no base class but this
        raise EngineError(f"{artifact} cannot be read as an ExecuTorch program: {error}") from error
    runtime = Runtime.get()
    kernels = runtime.operator_registry.operator_names
    backends = set(runtime.backend_registry.registered_backend_names)
    plan = next(plan for plan in plans if plan.name == method)
    needed = {f"{op.name}.{op.overload}" if op.overload else op.name for op in plan.operators}
    return sorted(needed - kernels), sorted({delegate.id for delegate in plan.delegates} - backends)


def engines() -> Engines:
    """ExecuTorch's runtime."""
    return Engines((ExecuTorchEngine(),))
