"""Constants of a program: what does not depend on its inputs or weights, computed once at export.

This is where random choices are made: a random split of the tokens is drawn here, with the export's seed, and is
the same on every device from then on.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import CustomObjArgument, InputKind, InputSpec, TensorArgument

from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.nodes import arguments, fake_mode_of, is_float, placeholders_of, value_of
from tm_export.exporters.graph.recipe import Step, step_of
from tm_export.exporters.graph.retrace import KEEP, retrace, with_graph
from tm_export.exporters.graph.user_line import source_line

MAX_ELEMENTS = 1 << 24
"""Larger results stay operations: an artifact should not grow by a table that one `full` makes."""

_FOLDED: Final = "folded_"

_INDEXING: Final = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default)

_LIKE: Final = (
    torch.ops.aten.rand_like.default, torch.ops.aten.randn_like.default, torch.ops.aten.randint_like.default,
    torch.ops.aten.randint_like.low_dtype, torch.ops.aten.exponential.default, torch.ops.aten.bernoulli.p,
    torch.ops.aten.normal_functional.default, torch.ops.aten.uniform.default, torch.ops.aten.geometric.default,
    torch.ops.aten.log_normal.default, torch.ops.aten.cauchy.default, torch.ops.aten.random.default,
)  # fmt: skip
"""Random draws that read an input, but only its shape: `empty_like(x).exponential_()` is one of them."""

_OF_DATA: Final = (
    torch.ops.aten.multinomial.default, torch.ops.aten.bernoulli.default, torch.ops.aten.bernoulli.Tensor,
    torch.ops.aten.normal.Tensor_float, torch.ops.aten.normal.float_Tensor, torch.ops.aten.normal.Tensor_Tensor,
    torch.ops.aten.poisson.default, torch.ops.aten.binomial.default,
)  # fmt: skip
"""Random draws whose distribution is what an input says."""

_ELEMENTWISE: Final = (
    torch.ops.aten.add.Tensor, torch.ops.aten.sub.Tensor, torch.ops.aten.mul.Tensor, torch.ops.aten.div.Tensor,
)  # fmt: skip


def constant_of(node: fx.Node) -> NDArray[Any] | None:
    """The value of `node`, if it is known at export; an array, since rules look at it while tracing tensors."""
    constant = node.meta.get("constant")
    return constant if isinstance(constant, np.ndarray) else None


def mark_constants(program: ExportedProgram) -> ExportedProgram:
    """Note on each constant input of the graph which tensor it is."""
    names = {
        spec.arg.name: str(spec.target)
        for spec in program.graph_signature.input_specs
        if spec.kind is InputKind.CONSTANT_TENSOR
    }
    for node in placeholders_of(program.graph):
        if node.name in names:
            tensor = program.constants[names[node.name]]
            assert isinstance(tensor, Tensor)
            node.meta["constant"] = tensor.numpy(force=True)
    return program


def fold_constants(program: ExportedProgram, seed: int) -> ExportedProgram:
    """Replace every value that needs neither inputs nor weights by a constant.

    Random operators are drawn in graph order from `seed`. Raises `ConversionRefused` for a draw from a distribution
    that depends on the inputs.
    """
    known: dict[fx.Node, Any] = {
        node: torch.from_numpy(constant)
        for node in placeholders_of(program.graph)
        if (constant := constant_of(node)) is not None
    }
    generators = [n for n in placeholders_of(program.graph) if isinstance(n.meta["val"], CustomObjArgument)]
    known |= {node: torch.Generator().manual_seed(seed) for node in generators}
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        program = _fold(program, known)
    _refuse_draws_of_data(program)
    unread = [
        n for n in placeholders_of(program.graph) if not n.users and (n in generators or constant_of(n) is not None)
    ]
    return _without_inputs(program, unread)


def _refuse_draws_of_data(program: ExportedProgram) -> None:
    for node in program.graph.nodes:
        if node.target in _OF_DATA:
            raise ConversionRefused(
                f"random numbers are drawn by {node.target} at {source_line(node) or node.name} from a distribution "
                "that depends on the inputs, and so cannot be drawn at export: draw evenly (torch.rand, "
                "torch.empty_like(p).exponential_()) and compare, as in torch.rand_like(p) < p or (p / q).argmax(-1)"
            )


def fold_weights(program: ExportedProgram) -> tuple[ExportedProgram, Step | None]:
    """Replace every value that needs no inputs by a constant, values computed from weights among them.

    Also returns how those follow from the weights, by the names that both have in the program.
    """
    tensors = {**program.constants, **program.state_dict}  # buffers that are not saved are among the former
    names = {
        spec.arg.name: str(spec.target)
        for spec in program.graph_signature.input_specs
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER)
    }
    constants = {
        node: torch.from_numpy(constant)
        for node in placeholders_of(program.graph)
        if (constant := constant_of(node)) is not None
    }
    weights = {
        node: names[node.name]
        for node in placeholders_of(program.graph)
        if node.name in names and node not in constants
    }
    known: dict[fx.Node, Any] = {node: tensors[name].detach() for node, name in weights.items()} | constants
    folding = _compute(program, known)
    made = {f"{_FOLDED}{i}": node for i, node in enumerate(folding.distinct)}
    step = step_of(program.graph, weights, constants, made) if made else None
    program, lifted = _lift(program, folding)
    if step is not None:
        renamed = dict(zip(made, (node.name for node in lifted), strict=True))
        step = replace(step, makes=tuple(renamed[name] for name in step.makes))
    unread = [node for node in placeholders_of(program.graph) if not node.users and node in known]
    return _without_inputs(program, unread), step


def lift_scalars(program: ExportedProgram) -> ExportedProgram:
    """Turn numbers in the arguments of element-wise operators into constant inputs.

    A number becomes an operator that makes a tensor of it at run time, outside any delegate. Where the result is a
    single number it stays, since the constants are arrays that hold one.
    """
    for node in program.graph.nodes:
        if node.target is torch.ops.aten.rsub.Scalar and len(arguments(node)) == 2 and is_float(node):
            node.target, node.args = torch.ops.aten.sub.Tensor, (arguments(node)[1], arguments(node)[0])
    uses = [
        (node, position, float(argument))
        for node in program.graph.nodes
        if node.target in _ELEMENTWISE and is_float(node) and value_of(node).dim()
        for position, argument in enumerate(arguments(node)[:2])
        if isinstance(argument, int | float)
    ]
    numbers = sorted({number for _, _, number in uses})
    program, placeholders = add_constants(program, [torch.tensor([number]) for number in numbers])
    lifted = dict(zip(numbers, placeholders, strict=True))
    for node, position, number in uses:
        node.update_arg(position, lifted[number])
    return retrace(program, lambda _node, _values: KEEP) if uses else program


@dataclass(frozen=True)
class _Folding:
    """What follows from known values: those of it that the rest of the graph reads, and equal ones only once."""

    values: Mapping[fx.Node, Tensor]
    stand_in: Mapping[fx.Node, fx.Node]

    @property
    def distinct(self) -> list[fx.Node]:
        """The nodes whose values are stored."""
        return list(dict.fromkeys(self.stand_in.values()))


def _fold(program: ExportedProgram, known: dict[fx.Node, Any]) -> ExportedProgram:
    """Compute what follows from the known values, and lift what the rest of the graph reads of it."""
    program, _ = _lift(program, _compute(program, known))
    return program


def _compute(program: ExportedProgram, known: dict[fx.Node, Any]) -> _Folding:
    """Compute what follows from the known values, which it is added to."""
    with torch.no_grad():
        for node in program.graph.nodes:
            if node.op == "call_function" and _foldable(node, known):
                value = _empty_like if node.target in _LIKE else known.__getitem__
                args, kwargs = fx.node.map_arg((arguments(node), node.kwargs), value)
                known[node] = node.target(*args, **kwargs)
    frontier = {
        node: value
        for node, value in known.items()
        if node.op == "call_function" and isinstance(value, Tensor) and any(user not in known for user in node.users)
    }
    first: dict[Any, fx.Node] = {}
    stand_in = {node: first.setdefault(_content_key(value), node) for node, value in frontier.items()}
    return _Folding(frontier, stand_in)


def _lift(program: ExportedProgram, folding: _Folding) -> tuple[ExportedProgram, list[fx.Node]]:
    """Read the folded values from constant inputs, which are returned too."""
    program, placeholders = add_constants(program, [folding.values[node] for node in folding.distinct])
    lifted = dict(zip(folding.distinct, placeholders, strict=True))
    for node, one in folding.stand_in.items():
        node.replace_all_uses_with(lifted[one])
    _erase_dead(program.graph)
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    for spec, result in zip(program.graph_signature.output_specs, arguments(output)[0], strict=True):
        if isinstance(result, fx.Node) and isinstance(spec.arg, TensorArgument):
            spec.arg = TensorArgument(result.name)  # an output may be a constant
    return program, placeholders


def _content_key(tensor: Tensor) -> Any:
    """Equal for equal tensors, so that each is stored once."""
    digest = hashlib.sha256(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()).digest()
    return (tuple(tensor.shape), tensor.dtype, digest)


def fold_masks(program: ExportedProgram) -> ExportedProgram:
    """Turn a mask that is known at export into the positions it chooses, and with it a shape that was open.

    Before::

        rows = index(x, [None, mask])                   [B, u0, C]: nobody knew how many the mask chooses

    After::

        rows = index(x, [None, positions])              [B, 37, C]
    """
    masks = [
        node
        for node in program.graph.nodes
        if (constant := constant_of(node)) is not None
        and constant.dtype == np.bool_
        and any(_is_indexed_by(user, node) for user in node.users)
    ]
    if not masks:
        return program
    for mask in masks:
        constant = constant_of(mask)
        assert constant is not None
        program, positions = add_constants(program, map(torch.from_numpy, constant.nonzero()))
        for user in [user for user in mask.users if _is_indexed_by(user, mask)]:
            x, indices, *rest = arguments(user)
            replaced = [p for index in indices for p in (positions if index is mask else [index])]
            user.args = (x, replaced, *rest)
    return retrace(program, lambda _node, _values: KEEP)


def _is_indexed_by(node: fx.Node, mask: fx.Node) -> bool:
    """Whether the mask chooses places; one that is written to them is a value like any other."""
    return node.target in _INDEXING and any(index is mask for index in bound_arguments(node)["indices"])


def _without_inputs(program: ExportedProgram, nodes: list[fx.Node]) -> ExportedProgram:
    """Drop inputs that nothing reads: the generators of what has been drawn."""
    if not nodes:
        return program
    names = {node.name for node in nodes}
    specs = [spec for spec in program.graph_signature.input_specs if spec.arg.name not in names]
    for node in nodes:
        program.graph.erase_node(node)
    return with_graph(program, program.graph_module, specs, program.graph_signature.output_specs)


def _foldable(node: fx.Node, known: dict[fx.Node, Any]) -> bool:
    value = node.meta.get("val")
    small = not isinstance(value, Tensor) or value.numel() <= MAX_ELEMENTS
    return small and (node.target in _LIKE or all(source in known for source in node.all_input_nodes))


def _empty_like(node: fx.Node) -> Tensor:
    return torch.empty(value_of(node).shape, dtype=value_of(node).dtype)


def add_constants(program: ExportedProgram, tensors: Iterable[Tensor]) -> tuple[ExportedProgram, list[fx.Node]]:
    """Return the program with further constant inputs, in front of the user's, and their nodes."""
    graph = program.graph
    mode = fake_mode_of(program)
    specs = list(program.graph_signature.input_specs)
    first_user = next(i for i, spec in enumerate(specs) if spec.kind is InputKind.USER_INPUT)
    anchor = placeholders_of(graph)[first_user]
    taken = {node.name for node in graph.nodes} | set(program.state_dict) | set(program.constants)
    added: dict[str, Tensor] = {}
    nodes = []
    for tensor in tensors:
        name = next(name for i in itertools.count() if (name := f"c_folded_{i}") not in taken)
        taken.add(name)
        # Contiguous and of its own: an expanded view would be written to a file as if it were all there.
        added[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
        with graph.inserting_before(anchor):
            node = graph.placeholder(name)
        assert node.name == name
        node.meta = {
            "val": mode.from_tensor(added[name], static_shapes=True),
            "constant": added[name].numpy(),
        }
        nodes.append(node)
    # Buffers, not constant tensors: ExecuTorch's passes lose track of the latter.
    specs[first_user:first_user] = [
        InputSpec(InputKind.BUFFER, TensorArgument(name), name, persistent=True) for name in added
    ]
    outputs = program.graph_signature.output_specs
    return with_graph(program, program.graph_module, specs, outputs, added), nodes


def _erase_dead(graph: fx.Graph) -> None:
    """Erase operators without users, random ones too."""
    for node in reversed(list(graph.nodes)):
        if node.op == "call_function" and not node.users:
            graph.erase_node(node)
