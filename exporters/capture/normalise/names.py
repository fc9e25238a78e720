"""Names that a graph of PyTorch's cannot keep when it is copied: `input`, `float`, `type` are names of Python's own."""

from __future__ import annotations

import builtins
import keyword
from dataclasses import replace

from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, OutputSpec, TensorArgument

from tm_export.exporters.graph.nodes import placeholders_of
from tm_export.exporters.graph.retrace import with_graph


def rename_inputs(program: ExportedProgram) -> ExportedProgram:
    """Return the program with other names inside for such inputs; their public names stand in a signature."""
    renamed = {}
    for node in placeholders_of(program.graph):
        if hasattr(builtins, node.name) or keyword.iskeyword(node.name):
            old = node.name
            node._rename(f"given_{old}")
            node.target = node.name
            renamed[old] = node.name
    if not renamed:
        return program

    def named(spec: InputSpec) -> InputSpec:
        if spec.kind is not InputKind.USER_INPUT or spec.arg.name not in renamed:
            return spec
        return replace(spec, arg=TensorArgument(renamed[spec.arg.name]))

    def naming(spec: OutputSpec) -> OutputSpec:
        is_input = isinstance(spec.arg, TensorArgument) and spec.arg.name in renamed
        return replace(spec, arg=TensorArgument(renamed[spec.arg.name])) if is_input else spec

    inputs = [named(spec) for spec in program.graph_signature.input_specs]
    outputs = [naming(spec) for spec in program.graph_signature.output_specs]
    return with_graph(program, program.graph_module, inputs, outputs)
