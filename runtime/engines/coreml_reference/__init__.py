"""The Core ML reference engine: evaluates a saved `.mlpackage` on any operating system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from tm_export.runtime.coremltools_alone import coremltools
from tm_export.runtime.engines.base import Array, EngineError, Session, require_artifact
from tm_export.runtime.engines.coreml_reference.evaluator import Plan, UnknownOp, evaluate, plan
from tm_export.runtime.engines.coreml_reference.program import ValueType, load_program
from tm_export.runtime.engines.coreml_reference.readings import ROUNDED, Readings
from tm_export.runtime.engines.footprint import Footprint
from tm_export.runtime.manifest import Block, TensorSpec, Variant

__all__ = ["CoreMLReferenceEngine", "UnknownOp"]


_PROGRAM_BYTES: Final = 4 * 2**20
"""What a program takes beside its weights, rounded up."""


@dataclass(frozen=True)
class CoreMLReferenceEngine:
    """Evaluates a Core ML program operation by operation on the CPU, with Core ML's storage types.

    It says whether the program is right, not how fast a device runs it. See `evaluator.py` for its precision, and
    `readings.py` for what readers of a value may see.
    """

    readings: Readings = ROUNDED
    name = "coreml-reference"
    version = coremltools.__version__
    loads_while_running = True

    def footprint(self, block: Block, variant: Variant) -> Footprint:
        """A copy of the weights and, while they are read, the package's own; a weight is widened when it is used.

        Measured on 2 cores with six products of 17 MB each: 1.33 times the weights when open (1.17 if they are 16 bit),
        2.3 times at the peak of loading. `run_bytes` is a bound: no more than all weights widened at once.
        """
        return Footprint(
            open_bytes=block.weight_bytes * 4 // 3 + _PROGRAM_BYTES,
            load_bytes=block.weight_bytes,
            run_bytes=block.weight_bytes + 2 * variant.activation_bytes,
        )

    def open(self, artifact: Path, variant: Variant) -> Session:
        """Reads one function of an `.mlpackage`.

        Raises:
            UnknownOp: the program holds an operation that the engine does not evaluate.
            EngineError: the package cannot be read, or its inputs or outputs are not the variant's.
        """
        require_artifact(artifact)
        program = load_program(artifact, variant.function)
        _require_same(artifact, "input", variant.inputs, program.inputs)
        _require_same(artifact, "output", variant.outputs, tuple(declared for declared, _ in program.outputs))
        return _ReferenceSession(variant, plan(program), self.readings)


class _ReferenceSession(Session):
    def __init__(self, variant: Variant, plan: Plan, readings: Readings) -> None:
        super().__init__(variant)
        self._plan = plan
        self._readings = readings

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        # Copies, on both sides: an output may be an input or a constant, and belongs to the caller.
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in inputs.items()}
        with torch.inference_mode():
            outputs = evaluate(self._plan, tensors, self._readings)
        return {name: np.array(tensor) for name, tensor in outputs.items()}

    def _release(self) -> None:
        del self._plan


def _require_same(artifact: Path, kind: str, specs: tuple[TensorSpec, ...], declared: tuple[ValueType, ...]) -> None:
    wanted = {spec.name: (spec.dtype, spec.shape) for spec in specs}
    found = {value.name: (str(value.dtype).removeprefix("torch."), value.shape) for value in declared}
    if wanted != found:
        raise EngineError(f"{artifact} declares the {kind}s {found}, the manifest {wanted}; export again")
