"""ONNX: one graph in ONNX's own operators, with its weights in a file beside it."""

from __future__ import annotations

import io
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Final

import onnx
import onnxslim
import torch
from torch.export import ExportedProgram

from tm_export.exporters.errors import UsageError
from tm_export.exporters.lowering.cost import ONNX_CPU, CostModel
from tm_export.exporters.options import ExportOptions, Precision
from tm_export.exporters.targets.base import Placement, Signature, refusal

OPSET: Final = 20
"""The oldest opset with Gelu as one operator; onnxruntime mobile builds of the last two years read it."""

EXTERNAL_FROM_BYTES: Final = 1024


class OnnxTarget:
    """Exports through `torch.onnx`, cleans up with onnxslim, and checks with `onnx.checker`."""

    name = "onnx"
    suffix = ".onnx"

    def precision(self, options: ExportOptions) -> Precision:
        """fp32; onnxruntime's CPU kernels compute in nothing narrower."""
        if options.precision == "fp16":
            raise UsageError("target onnx computes in fp32: leave out --precision fp16, or choose target coreml")
        return "fp32"

    def costs(self, options: ExportOptions) -> CostModel:
        """Costs on onnxruntime's CPU provider."""
        return ONNX_CPU

    def dtype(self, dtype: torch.dtype) -> str:
        """As in PyTorch."""
        return str(dtype).removeprefix("torch.")

    def legalize(self, program: ExportedProgram, options: ExportOptions) -> ExportedProgram:
        """Nothing: the exporter takes ATen as it is."""
        return program

    def emit(self, program: ExportedProgram, signature: Signature, path: Path, options: ExportOptions) -> None:
        """Write `path`, and its weights to a file of the same name with `.data` behind it."""
        model = _export(program, signature)
        model = onnxslim.slim(model)
        _make_deterministic(model)
        data = path.name + ".data"
        (path.parent / data).unlink(missing_ok=True)  # onnx would append to it
        onnx.save_model(model, path, save_as_external_data=True, location=data, size_threshold=EXTERNAL_FROM_BYTES)
        onnx.checker.check_model(str(path), full_check=True)

    def placement(self, path: Path) -> Placement:
        """All operators run on the CPU provider; there are no regions."""
        graph = onnx.load(str(path), load_external_data=False).graph
        operators = dict(sorted(Counter(node.op_type for node in graph.node).items()))
        return Placement(regions=0, operators=operators)


def _export(program: ExportedProgram, signature: Signature) -> onnx.ModelProto:
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(signature.inputs),
                output_names=list(signature.outputs),
                external_data=False,
                optimize=True,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise refusal("ONNX", program, error) from error
    assert exported is not None
    return exported.model_proto


def _make_deterministic(model: onnx.ModelProto) -> None:
    """Take out what differs from run to run or from machine to machine: traces, doc strings, metadata."""
    model.doc_string = ""
    del model.metadata_props[:]
    graphs = [model.graph, *model.functions]
    for graph in graphs:
        graph.doc_string = ""
        for node in graph.node:
            node.doc_string = ""
            del node.metadata_props[:]
        for value in (*getattr(graph, "input", ()), *getattr(graph, "output", ()), *graph.value_info):
            if isinstance(value, onnx.ValueInfoProto):
                value.doc_string = ""
                del value.metadata_props[:]
    for tensor in model.graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    del model.graph.metadata_props[:]


TARGET: Final = OnnxTarget()
