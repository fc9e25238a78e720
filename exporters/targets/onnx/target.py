"""ONNX: one graph in ONNX's own operators, with its weights in a file beside it."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Final

import onnx
import torch
from torch.export import ExportedProgram

from tm_export.exporters.errors import ConversionRefused, UsageError
from tm_export.exporters.graph.constants import fold_weights
from tm_export.exporters.graph.recipe import Recipe
from tm_export.exporters.graph.rule import apply_rules
from tm_export.exporters.graph.user_line import source_line
from tm_export.exporters.lowering.cost import ONNX_CPU, CostModel
from tm_export.exporters.options import ExportOptions, Precision
from tm_export.exporters.targets.base import Function, Legalized, Placement, Signature, refusal
from tm_export.exporters.targets.onnx.attention import AttentionOverOneBatch
from tm_export.exporters.targets.onnx.bytes import with_wide_bytes
from tm_export.exporters.targets.onnx.data import WEIGHTS, write_external_data
from tm_export.exporters.targets.onnx.narrow import with_narrow_weights
from tm_export.exporters.targets.onnx.rules import ONNX_RULES
from tm_export.exporters.targets.onnx.slim import slimmed
from tm_export.exporters.targets.onnx.weights import WeightedGraph, without_weights
from tm_export.exporters.targets.shared.integers import DivisionByFloor

OPSET: Final = 20
"""The oldest opset with Gelu as one operator; onnxruntime mobile builds of the last two years read it."""

RULES: Final = (AttentionOverOneBatch(), DivisionByFloor(), *ONNX_RULES)


class OnnxTarget:
    """Exports through `torch.onnx`, cleans up with onnxslim, and checks with `onnx.checker`."""

    name = "onnx"
    suffix = ".onnx"
    least_rank = 0
    warm = ("tm_export.exporters.targets.onnx.warm",)
    libraries = ("onnx", "onnxruntime", "onnxscript", "onnxslim")

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

    def legalize(self, program: ExportedProgram, options: ExportOptions) -> Legalized:
        """Operators that the exporter lacks or computes in floats are written out; weights alone are computed with."""
        program, _ = apply_rules(program, RULES)
        program, step = fold_weights(with_wide_bytes(program))
        return Legalized(program, Recipe(step))

    def artifact(self, stem: str, variant: str) -> str:
        """A graph for each variant."""
        return f"{stem}/{variant}{self.suffix}"

    def function(self, variant: str, variants: int) -> str:
        """A graph has no name by which it would be called."""
        return "forward"

    def emit(self, functions: Mapping[str, Function], folder: Path, stem: str, options: ExportOptions) -> None:
        """Write a folder with a graph for each variant, and one file with the weights of all."""
        graphs = {name: slimmed(_export(function.program, function.signature)) for name, function in functions.items()}
        if options.weights == "fp16":
            graphs = {name: with_narrow_weights(graph) for name, graph in graphs.items()}
        (folder / stem).mkdir(exist_ok=True)
        write_external_data(graphs.values(), folder / stem / WEIGHTS)
        for name, graph in graphs.items():
            _make_deterministic(graph.model)
            path = folder / self.artifact(stem, name)
            onnx.save_model(graph.model, path)
            try:
                onnx.checker.check_model(str(path), full_check=True)
            except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
                raise _invalid(functions[name].program, error) from error

    def seal(self, folder: Path) -> None:
        """Nothing in a graph depends on the bytes of its weights."""

    def placement(self, path: Path, function: str) -> Placement:
        """All operators run on the CPU provider; there are no regions."""
        graph = onnx.load(str(path), load_external_data=False).graph
        operators = dict(sorted(Counter(node.op_type for node in graph.node).items()))
        return Placement(regions=0, operators=operators)


def _export(program: ExportedProgram, signature: Signature) -> WeightedGraph:
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
    return without_weights(exported.model)


def _invalid(program: ExportedProgram, error: Exception) -> ConversionRefused:
    """The refusal of a graph that ONNX does not allow: an operator has no form for numbers of this type."""
    found = re.search(r"op_type: ?(\w+), node name: (?:node_)?(\w+)", str(error))
    operator, name = found.groups() if found else ("one of its operators", "")
    line = next((source_line(node) for node in program.graph.nodes if node.name == name), "")
    return ConversionRefused(
        f"ONNX has no {operator} for numbers of this type{f' at {line}' if line else ''}: "
        "convert them to float32 or int64"
    )


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
