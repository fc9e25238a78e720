"""A block of the captured program, before any rule has touched it: what a block of a streamed model is held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx
from torch.export import ExportedProgram

from tm_export.exporters.graph.liveness import weight_keys
from tm_export.exporters.graph.nodes import operator_of, value_of


@dataclass(frozen=True)
class CapturedBlock:
    """A part of the captured program: its operators in order, from the values that it reads to those that it writes."""

    program: ExportedProgram
    operators: tuple[fx.Node, ...]
    reads: tuple[fx.Node, ...]
    writes: tuple[fx.Node, ...]

    def run(self, inputs: Sequence[Tensor], read_weight: Callable[[str], Tensor]) -> tuple[Tensor, ...]:
        """Compute it; each weight is read, by its key, when an operator needs it, and let go of after it."""
        keys, values = weight_keys(self.program), _constants(self.program)
        values |= dict(zip(self.reads, inputs, strict=True))
        last_use = {source: node for node in self.operators for source in node.all_input_nodes}

        def value(source: fx.Node) -> Any:
            is_weight = source.name in keys and source not in values
            return read_weight(keys[source.name]).to(value_of(source).dtype) if is_weight else values[source]

        for node in self.operators:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), value)
            values[node] = operator_of(node)(*args, **kwargs)
            for source in node.all_input_nodes:
                if last_use[source] is node and source not in self.writes:
                    values.pop(source, None)
        return tuple(values[node] for node in self.writes)


def captured_block(
    program: ExportedProgram, reads: Sequence[str | None], writes: Sequence[str | None]
) -> CapturedBlock | None:
    """The block that computes the values `writes` from `reads`, by the names of their nodes.

    None where there is no such block: a value is in the middle of what a rule rewrote, and has no name, or the captured
    program needs a value that the rewritten one does not.
    """
    nodes = {node.name: node for node in program.graph.nodes}
    if any(name not in nodes for name in (*reads, *writes)):
        return None
    given, wanted = ([nodes[str(name)] for name in names] for names in (reads, writes))
    known = {*given, *_constants(program), *(nodes[name] for name in weight_keys(program))}
    needed: set[fx.Node] = set()
    stack = [node for node in wanted if node not in known]
    while stack:
        node = stack.pop()
        if node.op == "placeholder":
            return None
        if node not in needed:
            needed.add(node)
            stack += [source for source in node.all_input_nodes if source not in known]
    operators = tuple(node for node in program.graph.nodes if node in needed)
    return CapturedBlock(program, operators, tuple(given), tuple(wanted))


def _constants(program: ExportedProgram) -> dict[fx.Node, Any]:
    """What is no weight and no input, by its node."""
    held = {**program.constants, **program.state_dict}
    keys = weight_keys(program)
    targets = {spec.arg.name: str(spec.target) for spec in program.graph_signature.input_specs}
    return {
        node: held[targets[node.name]]
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name not in keys and targets[node.name] in held
    }
