"""Modules as Core ML artifacts, run by the reference engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from tm_export.exporters.capture import capture
from tm_export.exporters.describe import as_declared, tensor_specs
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.retrace import arguments, value_of
from tm_export.exporters.targets.base import Function, Signature, find_target
from tm_export.runtime import manifest
from tm_export.runtime.engines.coreml_reference import CoreMLReferenceEngine

TARGET = find_target("coreml")
FP32 = ExportOptions(precision="fp32")


class Calls(nn.Module):
    """A module that computes a function of its inputs."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self._function(*inputs)


def legalized(function: Callable[..., Any], inputs: Sequence[Tensor]) -> ExportedProgram:
    """The function's program in the operators that coremltools converts rightly."""
    return TARGET.legalize(capture(Calls(function), tuple(inputs)), FP32).program


def tensors_in(results: Any) -> list[Tensor]:
    """All tensors of a nest of tuples, in order."""
    return [results] if isinstance(results, Tensor) else [tensor for each in results for tensor in tensors_in(each)]


def on_reference(function: Callable[..., Any], *sets: Sequence[Tensor], folder: Path) -> list[list[Tensor]]:
    """What the artifact of a function gives on each set of inputs, the first being the example."""
    program = legalized(function, sets[0])
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    outputs = [value_of(node) for node in arguments(output)[0]]
    names = Signature(tuple(f"x{i}" for i in range(len(sets[0]))), tuple(f"y{i}" for i in range(len(outputs))))
    TARGET.emit({"full": Function(program, names)}, folder, "block", FP32)
    variant = manifest.Variant(
        name="full",
        artifact="block.mlpackage",
        function="main",
        inputs=tensor_specs(names.inputs, sets[0], TARGET),
        outputs=tensor_specs(names.outputs, outputs, TARGET),
        activation_bytes=0,
    )
    made = []
    with CoreMLReferenceEngine().open(folder / "block.mlpackage", variant) as session:
        for inputs in sets:
            given = {s.name: as_declared(s, x) for s, x in zip(variant.inputs, inputs, strict=True)}
            results = session.run(given)
            made.append([torch.from_numpy(np.asarray(results[spec.name])) for spec in variant.outputs])
    return made
