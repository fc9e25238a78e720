"""Find the operator at which a converter fails that does not say so: by converting less and less of the program."""

from __future__ import annotations

import operator
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputSpec, OutputKind, OutputSpec, TensorArgument

from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.graph.nodes import placeholders_of
from tm_export.exporters.graph.retrace import with_graph
from tm_export.exporters.graph.user_line import source_line
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.targets.base import Function, Signature, Target, UnlocatedRefusal

MOST_OPERATORS: Final = 2000
"""Of a larger program each of some dozen conversions would take too long."""


def emit_or_name(
    target: Target, functions: Mapping[str, Function], folder: Path, stem: str, options: ExportOptions
) -> None:
    """Emit the functions; raise `ConversionRefused` with an operator's name where the converter fails without one."""
    try:
        target.emit(functions, folder, stem, options)
    except UnlocatedRefusal as error:
        for function in functions.values():
            culprit = first_that_fails(function.program, lambda part: _converts(target, part, options))
            if culprit is not None:
                raise ConversionRefused(
                    f"{error.converter} fails at {culprit.target}, at {source_line(culprit) or culprit.name}: "
                    "write it in other operators (--debug shows the converter's own words)"
                ) from error
        raise


def first_that_fails(program: ExportedProgram, converts: Callable[[ExportedProgram], bool]) -> fx.Node | None:
    """The first operator with which the program up to there does not convert.

    None where there are too many to try, or where it is no single one's fault.
    """
    operators = [node for node in program.graph.nodes if node.op == "call_function"]
    if not 0 < len(operators) <= MOST_OPERATORS:
        return None
    fine, failing = 0, len(operators)  # so many operators convert, and so many do not
    while failing - fine > 1:
        middle = (fine + failing) // 2
        part = up_to(program, operators[:middle])
        fine, failing = (middle, failing) if part is None or converts(part) else (fine, middle)
    last = up_to(program, operators[:failing])
    if last is None or converts(last):
        return None
    culprit: fx.Node = operators[failing - 1]
    source: fx.Node = culprit.all_input_nodes[0] if culprit.target is operator.getitem else culprit
    return source


def up_to(program: ExportedProgram, operators: Sequence[fx.Node]) -> ExportedProgram | None:
    """The program that computes these operators alone, whose results are those that none of them reads."""
    inside = set(operators)
    results = [node for node in operators if isinstance(node.meta["val"], Tensor) and inside.isdisjoint(node.users)]
    if not results:
        return None
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder" or node in inside:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[node] for node in results))
    specs = [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(copies[node].name), None) for node in results]
    inputs = [  # by their names in the graph: a target that has tried it may have given them others
        InputSpec(spec.kind, TensorArgument(copies[node].name), spec.target, spec.persistent)
        for spec, node in zip(program.graph_signature.input_specs, placeholders_of(program.graph), strict=True)
    ]
    return with_graph(program, fx.GraphModule(program.graph_module, graph), inputs, specs)


def _converts(target: Target, program: ExportedProgram, options: ExportOptions) -> bool:
    names = tuple(f"x{i}" for i in range(len(program.graph_signature.user_inputs)))
    outputs = tuple(f"y{i}" for i in range(len(program.graph_signature.output_specs)))
    part = {"part": Function(program, Signature(names, outputs))}
    with tempfile.TemporaryDirectory() as folder:
        try:
            target.emit(part, Path(folder), "00", options)
        except Exception:  # whatever the converter raises
            return False
    return True
