"""Weights and constants of a program, exchanged for others that may have another dtype and shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from tm_export.exporters.graph.constants import constant_of
from tm_export.exporters.graph.nodes import fake_mode_of, placeholders_of


def with_stored(
    program: ExportedProgram, concerns: Callable[[Any], bool], change: Callable[[Tensor], Tensor]
) -> ExportedProgram:
    """Return the program over `change` of every weight and constant that it `concerns`.

    The graph that reads them stays, with the changed values at its inputs: retrace it. `change` is called on tensors
    without values, too.
    """
    keys = {
        spec.arg.name: str(spec.target)
        for spec in program.graph_signature.input_specs
        if spec.kind is not InputKind.USER_INPUT
    }
    state, constants = dict(program.state_dict), dict(program.constants)
    mode = fake_mode_of(program)
    for node in placeholders_of(program.graph):
        value = node.meta["val"]
        if node.name not in keys or not concerns(value):
            continue
        key = keys[node.name]
        held: dict[str, Any] = state if key in state else constants
        held[key] = change(held[key])
        with mode:
            node.meta["val"] = change(value)
        if constant_of(node) is not None:
            node.meta["constant"] = held[key].numpy(force=True)
    return ExportedProgram(
        root=program.graph_module,
        graph=program.graph,
        graph_signature=program.graph_signature,
        state_dict=state,
        range_constraints=dict(program.range_constraints),
        module_call_graph=program.module_call_graph,
        example_inputs=None,
        constants=constants,
    )
