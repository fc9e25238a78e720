"""Decisions of a program as outputs of it: verification looks at them."""

from __future__ import annotations

import copy

from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind, OutputSpec, TensorArgument

from tm_export.exporters.graph.nodes import arguments
from tm_export.exporters.graph.retrace import with_graph
from tm_export.exporters.merging.sites import decisions_of


def expose_decisions(program: ExportedProgram) -> ExportedProgram:
    """The same program with every decision as a further output, for verification."""
    program = copy.deepcopy(program)
    decisions = decisions_of(program)
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    output.args = ((*arguments(output)[0], *decisions),)
    specs = [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(node.name), None) for node in decisions]
    return with_graph(
        program,
        program.graph_module,
        program.graph_signature.input_specs,
        [*program.graph_signature.output_specs, *specs],
    )
