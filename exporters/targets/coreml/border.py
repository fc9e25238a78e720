"""What crosses the border of a Core ML program, which takes and gives floats and integers of 32 bits in arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, OutputSpec, TensorArgument

from tm_export.exporters.graph.nodes import arguments, fake_mode_of, placeholders_of, value_of
from tm_export.exporters.graph.retrace import KEEP, Values, retrace, with_graph

LEAST_RANK: Final = 1
"""Core ML takes no single numbers, but arrays that hold one."""


def border_dtype(dtype: torch.dtype) -> torch.dtype:
    """What a value is on the outside: float32, or int32 for integers of any width and for truth values (0 and 1)."""
    return torch.float32 if dtype.is_floating_point else torch.int32


def with_border(program: ExportedProgram, inputs: tuple[str, ...]) -> ExportedProgram:
    """Give the user's inputs their public names, and convert inputs and outputs where they cross the border.

    coremltools would declare truth values as floats, and rename an input that is a single number.
    """
    graph = program.graph
    specs = list(program.graph_signature.input_specs)
    nodes = {node.name: node for node in placeholders_of(graph)}
    first = next(node for node in graph.nodes if node.op != "placeholder")
    public = iter(inputs)
    with fake_mode_of(program):
        for i, spec in enumerate(specs):
            if spec.kind is InputKind.USER_INPUT:
                node, name = nodes[spec.arg.name], next(public)
                _make_free(graph, name, node)
                node.name = node.target = name
                specs[i] = InputSpec(spec.kind, TensorArgument(name), spec.target)
                _enter(graph, node, first)
    (output,) = (node for node in graph.nodes if node.op == "output")
    outputs = [
        OutputSpec(spec.kind, TensorArgument(result.name), spec.target)
        for spec, result in zip(program.graph_signature.output_specs, arguments(output)[0], strict=True)
    ]
    program = with_graph(program, program.graph_module, specs, outputs)
    return retrace(program, _leave)


def _make_free(graph: fx.Graph, name: str, owner: fx.Node) -> None:
    """Rename whatever else has the name: a small letter, or a value of the graph's own."""
    for other in graph.nodes:
        if other.name == name and other is not owner:
            other._rename(f"{name}_value")


def _enter(graph: fx.Graph, node: fx.Node, first: fx.Node) -> None:
    """Let an input be what Core ML takes, and the program read what PyTorch has."""
    inside = value_of(node)
    value = torch.empty(inside.shape or (1,), dtype=border_dtype(inside.dtype))
    node.meta["val"] = value
    readers = list(node.users)
    entered = node
    for called, argument in _steps(inside):
        with graph.inserting_before(first):
            entered = graph.call_function(called, (entered, argument))
        value = called(value, argument)
        entered.meta["val"] = value
    if entered is not node:
        for reader in readers:
            reader.replace_input_with(node, entered)


def _steps(inside: Tensor) -> list[tuple[Callable[..., Any], Any]]:
    """What makes of an input, as it comes in, what PyTorch has there: operators, each with its further argument."""
    aten = torch.ops.aten
    steps: list[tuple[Callable[..., Any], Any]] = []
    if inside.dim() == 0:
        steps.append((aten.squeeze.dim, 0))
    if inside.dtype is torch.bool:
        steps.append((aten.ne.Scalar, 0))
    return steps


def _leave(node: fx.Node, values: Values) -> Any:
    """Let each output be a value of its own, of a type that leaves."""
    if node.op != "output":
        return KEEP
    results: list[Tensor] = []
    seen: set[fx.Node] = set()
    for result in arguments(node)[0]:
        inside: Tensor = values(result)
        dtype = border_dtype(inside.dtype)
        left = inside if inside.dtype == dtype else torch.ops.aten._to_copy.default(inside, dtype=dtype)
        if left is inside and (result.op == "placeholder" or result in seen):
            left = left.clone()
        results.append(left.unsqueeze(0) if inside.dim() == 0 else left)
        seen.add(result)
    return tuple(results)
