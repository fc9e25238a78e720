"""Cut a program where a partition says, into one program for each block, written so that equal blocks are equal."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, fx
from torch._guards import detect_fake_mode
from torch.export import ExportedProgram, ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)

from tm_export.exporters.graph.constants import constant_of
from tm_export.exporters.graph.liveness import user_inputs, weight_keys
from tm_export.exporters.graph.nodes import arguments, value_of
from tm_export.exporters.graph.retrace import CAPTURED


@dataclass(frozen=True)
class Piece:
    """One variant of one block: a program, and the component's values that it reads and writes, in its own order.

    `captured_reads` and `captured_writes` are the captured program's nodes of these values, None for what it has not.
    """

    program: ExportedProgram
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    captured_reads: tuple[str | None, ...]
    captured_writes: tuple[str | None, ...]


@dataclass(frozen=True)
class BlockPieces:
    """One block: its variants' pieces, and the module's key of each weight by the name that it has in them."""

    pieces: Mapping[str, Piece]
    weights: Mapping[str, str]

    @property
    def structure(self) -> str:
        """Equal (a SHA-256) for blocks that are the same program with other weights."""
        digest = hashlib.sha256()
        for name, piece in self.pieces.items():
            for line in (name, *_lines(piece.program)):
                digest.update(line.encode() + b"\n")
        return digest.hexdigest()


def whole(programs: Mapping[str, ExportedProgram], inputs: Sequence[str], outputs: Sequence[str]) -> BlockPieces:
    """A component as one block: its programs as they are."""
    keys = {key for program in programs.values() for key in weight_keys(program).values()}
    pieces = {
        name: Piece(
            program, tuple(inputs), tuple(outputs), _captured(user_inputs(program)), _captured(outputs_of(program))
        )
        for name, program in programs.items()
    }
    return BlockPieces(pieces, {key: key for key in sorted(keys)})


def cut(
    programs: Mapping[str, ExportedProgram],
    cuts: Sequence[Sequence[int]],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> tuple[BlockPieces, ...]:
    """Cut the variants of a component into blocks.

    Args:
        programs: each variant, with distinct outputs none of which is an input (see `with_own_outputs`).
        cuts: for each cut, both ends among them, the number of operators before it in each variant.
        inputs: the component's public names for its inputs.
        outputs: the same for its outputs.
    """
    cutters = {
        variant: _Cutter(program, [each[i] for each in cuts], inputs, outputs)
        for i, (variant, program) in enumerate(programs.items())
    }
    blocks = []
    for block in range(len(cuts) - 1):
        used = dict.fromkeys(key for cutter in cutters.values() for key in cutter.weights_of(block))
        own = {key: f"w{i}" for i, key in enumerate(used)}
        pieces = {variant: cutter.piece(block, own) for variant, cutter in cutters.items()}
        blocks.append(BlockPieces(pieces, {name: key for key, name in own.items()}))
    return tuple(blocks)


def with_own_outputs(program: ExportedProgram) -> ExportedProgram:
    """Give the program a copy of every output that is an input, a weight, or another output too."""
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    seen: set[fx.Node] = set()
    results = []
    for node in arguments(output)[0]:
        if node in seen or node.op == "placeholder":
            with program.graph.inserting_before(output):
                copied = program.graph.call_function(torch.ops.aten.clone.default, (node,))
            copied.meta = {key: node.meta[key] for key in ("val", "stack_trace", CAPTURED) if key in node.meta}
            node = copied
        seen.add(node)
        results.append(node)
    output.args = (tuple(results),)
    specs = program.graph_signature.output_specs
    for spec, node in zip(specs, results, strict=True):
        spec.arg = TensorArgument(node.name)
    program.graph_module.recompile()
    return program


class _Cutter:
    """One variant of a component, taken apart."""

    def __init__(
        self, program: ExportedProgram, cuts: Sequence[int], inputs: Sequence[str], outputs: Sequence[str]
    ) -> None:
        operators = [node for node in program.graph.nodes if node.op == "call_function"]
        self._segments = [operators[a:b] for a, b in itertools.pairwise(cuts)]
        self._keys = weight_keys(program)
        self._specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
        self._stored = {**program.constants, **program.state_dict}
        self._names = self._value_names(program, inputs, outputs)

    def _value_names(
        self, program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]
    ) -> dict[fx.Node, str]:
        """The component's name of every value that is an input, an output, or crosses a cut."""
        (output,) = (node for node in program.graph.nodes if node.op == "output")
        names = dict(zip(user_inputs(program), inputs, strict=True))
        names |= dict(zip(arguments(output)[0], outputs, strict=True))
        block = {node: i for i, segment in enumerate(self._segments) for node in segment}
        free = (name for i in itertools.count() if (name := f"value_{i}") not in {*inputs, *outputs})
        for node in block:
            if node not in names and any(block[user] != block[node] for user in node.users if user in block):
                names[node] = next(free)
        return names

    def weights_of(self, block: int) -> Iterator[str]:
        """The module's keys of the weights that a block reads, in the order of their use."""
        for node in self._segments[block]:
            for source in node.all_input_nodes:
                if source.name in self._keys:
                    yield self._keys[source.name]

    def piece(self, block: int, own: Mapping[str, str]) -> Piece:
        """A block as a program: inputs `x0`, …; weights, by the module's key, as in `own`; constants `c0`, …"""
        segment = self._segments[block]
        inside = set(segment)
        sources = dict.fromkeys(source for node in segment for source in node.all_input_nodes if source not in inside)
        reads = [node for node in sources if node in self._names]
        writes = [node for node in segment if node in self._names]
        held = [node for node in sources if node not in self._names]
        weights = sorted((n for n in held if n.name in self._keys), key=lambda n: int(own[self._keys[n.name]][1:]))
        constants = [node for node in held if node.name not in self._keys]
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        specs: list[InputSpec] = []
        state: dict[str, Tensor] = {}
        lifted: dict[str, Any] = {}
        for node in (*weights, *constants):
            spec = self._specs[node.name]
            name = own[self._keys[node.name]] if node.name in self._keys else f"c{constants.index(node)}"
            copies[node] = _placeholder(graph, name, node)
            persistent = None if spec.persistent is None else True
            specs.append(InputSpec(spec.kind, TensorArgument(name), name, persistent))
            value = self._stored[str(spec.target)]
            assert isinstance(value, Tensor)
            (lifted if spec.kind is InputKind.CONSTANT_TENSOR else state)[name] = value
        for i, node in enumerate(reads):
            copies[node] = _placeholder(graph, f"x{i}", node)
            copies[node].meta["val"] = _contiguous(value_of(node))
            specs.append(InputSpec(InputKind.USER_INPUT, TensorArgument(f"x{i}"), None))
        taken = {node.name for node in copies.values()}
        for node in segment:
            copies[node] = graph.node_copy(node, copies.__getitem__)
            copies[node].meta = dict(node.meta)
            if node.target is torch.ops.aten.view.default:  # what crosses a cut has lost its strides
                copies[node].target = torch.ops.aten.reshape.default
            if copies[node].name in taken:
                copies[node]._rename(f"{node.name}_value")
        results = tuple(copies[node] for node in writes)
        graph.output(results)
        outputs = [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(node.name), None) for node in results]
        program = ExportedProgram(
            root=fx.GraphModule({}, graph),
            graph=graph,
            graph_signature=ExportGraphSignature(specs, outputs),
            state_dict=state,
            range_constraints={},
            module_call_graph=[_call(len(reads), len(results))],
            example_inputs=None,
            constants=lifted,
        )
        return Piece(
            program,
            tuple(self._names[node] for node in reads),
            tuple(self._names[node] for node in writes),
            _captured(reads),
            _captured(writes),
        )


def _captured(nodes: Sequence[fx.Node]) -> tuple[str | None, ...]:
    return tuple(node.meta.get(CAPTURED) for node in nodes)


def outputs_of(program: ExportedProgram) -> list[fx.Node]:
    """The nodes that a program returns."""
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    return list(arguments(output)[0])


def _placeholder(graph: fx.Graph, name: str, like: fx.Node) -> fx.Node:
    node = graph.placeholder(name)
    node.name = node.target = name
    node.meta = {key: like.meta[key] for key in ("val", "constant") if key in like.meta}
    return node


def _contiguous(value: Tensor) -> Tensor:
    """A fake tensor as an engine hands it on."""
    mode = detect_fake_mode([value])
    assert mode is not None
    with mode:
        return torch.empty(value.shape, dtype=value.dtype)


def _call(inputs: int, outputs: int) -> ModuleCallEntry:
    """The record of how the piece is called: tensors by position in, a tuple out."""
    in_spec = pytree.tree_structure((tuple(range(inputs)), {}))
    out_spec = pytree.tree_structure(tuple(range(outputs)))
    return ModuleCallEntry("", ModuleCallSignature(inputs=[], outputs=[], in_spec=in_spec, out_spec=out_spec))


def _lines(program: ExportedProgram) -> Iterator[str]:
    """A text that is equal for equal programs: operators by position, weights by shape, constants by content."""
    position: dict[fx.Node, str] = {}
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}

    def text(argument: Any) -> str:
        if isinstance(argument, fx.Node):
            return position[argument]
        if isinstance(argument, list | tuple):
            return f"[{','.join(map(text, argument))}]"
        return repr(argument)

    for i, node in enumerate(program.graph.nodes):
        position[node] = f"%{i}"
        if node.op == "placeholder":
            constant = constant_of(node)
            content = "" if constant is None else hashlib.sha256(constant.tobytes()).hexdigest()
            value = value_of(node)
            yield f"{specs[node.name].kind} {node.name} {tuple(value.shape)} {value.dtype} {content}"
        else:
            keywords = ",".join(f"{name}={text(value)}" for name, value in sorted(node.kwargs.items()))
            yield f"{node.target} {text(node.args)} {keywords}"
