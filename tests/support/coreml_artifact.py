"""Functions as Core ML artifacts, run by the reference engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.export import ExportedProgram

from tests.support.programs import emit_one, program_of
from tm_export.exporters.capture.normalise import normalise
from tm_export.exporters.graph.nodes import arguments, value_of
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.targets.base import Signature, find_target
from tm_export.exporters.targets.specs import as_declared
from tm_export.runtime.engines.coreml_reference import CoreMLReferenceEngine

TARGET: Final = find_target("coreml")
FP32: Final = ExportOptions(precision="fp32")


def legalized(function: Callable[..., Any], inputs: Sequence[Tensor], options: ExportOptions = FP32) -> ExportedProgram:
    """The function's program in operators that coremltools converts rightly."""
    return TARGET.legalize(normalise(program_of(function, *inputs)), options).program


def tensors_in(results: Any) -> list[Tensor]:
    """All tensors of a nest of tuples and lists, in order."""
    return [results] if isinstance(results, Tensor) else [tensor for each in results for tensor in tensors_in(each)]


def on_reference(
    function: Callable[..., Any], *sets: Sequence[Tensor], folder: Path, options: ExportOptions = FP32
) -> list[list[Tensor]]:
    """What the artifact of a function gives on each set of inputs; the first is the example."""
    program = legalized(function, sets[0], options)
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    outputs = [value_of(node) for node in arguments(output)[0]]
    names = Signature(tuple(f"x{i}" for i in range(len(sets[0]))), tuple(f"y{i}" for i in range(len(outputs))))
    path, variant = emit_one(TARGET, program, names, folder, options, sets[0], outputs)
    made = []
    with CoreMLReferenceEngine().open(path, variant) as session:
        for inputs in sets:
            results = session.run({s.name: as_declared(s, x) for s, x in zip(variant.inputs, inputs, strict=True)})
            made.append([torch.from_numpy(results[spec.name]) for spec in variant.outputs])
    return made
