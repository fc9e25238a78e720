"""Which tensors of a program are alive when, and how many bytes they take: what a partition is made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from tm_export.exporters.graph.nodes import placeholders_of

TAKE_ROWS: Final = frozenset({torch.ops.aten.embedding.default, torch.ops.aten.index_select.default})
"""What reads a table's rows and not the table."""


@dataclass(frozen=True)
class Operator:
    """One operator in a program's order.

    Attributes:
        node: the operator.
        weights: keys of the parameters and buffers that it reads.
        constant_bytes: of the constants that it reads, those of the program itself.
        peak_bytes: of all activations that are alive while it runs, its own result among them.
        token: equal for operators that do the same to tensors of the same shapes.
    """

    node: fx.Node
    weights: tuple[str, ...]
    constant_bytes: int
    peak_bytes: int
    token: int


@dataclass(frozen=True)
class Liveness:
    """A program's operators in order, and for each cut in front of one (or behind the last) what crosses it."""

    operators: tuple[Operator, ...]
    crossing: tuple[tuple[fx.Node, ...], ...]

    def crossing_bytes(self, cut: int) -> int:
        """Bytes of the values that cross the cut."""
        return sum(bytes_of(node) for node in self.crossing[cut])

    def may_cut(self, cut: int) -> bool:
        """Whether only activations cross: an index or a mask is not taken from the decision that made it."""
        return all(
            isinstance(value := node.meta["val"], Tensor) and (value.is_floating_point() or node.op == "placeholder")
            for node in self.crossing[cut]
        )


def liveness_of(program: ExportedProgram, copied_bytes: Callable[[Tensor], int] = lambda weight: 0) -> Liveness:
    """Follow every activation of the program from where it is made to where it is last read.

    An input counts from where it is first read: until then it is the caller's, as a cache is that a later layer reads.
    A weight that is not computed with as it is stored counts, while it is read, by the bytes of its copy.

    Args:
        program: what is followed.
        copied_bytes: for a weight, how many bytes the copy takes that operators read in its place; 0 for none. A
            table that rows are taken from is read as it is.
    """
    weights = weight_keys(program)
    inputs = set(user_inputs(program))
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    place = {node: i for i, node in enumerate(nodes)}
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    place[output] = len(nodes)
    values = [node for node in program.graph.nodes if node in inputs or (node in place and node is not output)]
    last = {node: max((place[user] for user in node.users), default=-1) for node in values}
    made = {node: place.get(node, min((place[user] for user in node.users), default=-1)) for node in values}
    copies: dict[fx.Node, int] = {}
    for node in placeholders_of(program.graph):
        readers = [place[user] for user in node.users if user.target not in TAKE_ROWS]
        if node.name in weights and readers and (copy := copied_bytes(node.meta["val"])):
            copies[node], made[node], last[node] = copy, min(readers), max(readers)
    sizes = copies | {node: bytes_of(node) for node in values}
    alive = _alive_bytes(sizes, _storages(sizes), made, last, len(nodes))
    constants = {node: bytes_of(node) for node in placeholders_of(program.graph) if node not in inputs}
    operators = []
    for i, node in enumerate(nodes):
        read = [source for source in node.all_input_nodes if source in constants]
        operators.append(
            Operator(
                node=node,
                weights=tuple(weights[source.name] for source in read if source.name in weights),
                constant_bytes=sum(constants[source] for source in read if source.name not in weights),
                peak_bytes=alive[i],
                token=hash(_token(node)),
            )
        )
    crossing: list[list[fx.Node]] = [[] for _ in range(len(nodes) + 1)]
    for node in values:
        for cut in range(made[node] + 1, last[node] + 1):
            crossing[cut].append(node)
    return Liveness(tuple(operators), tuple(map(tuple, crossing)))


def weight_keys(program: ExportedProgram) -> dict[str, str]:
    """From the names of graph inputs to the module's keys of the parameters and buffers that they are."""
    folded = {node.name for node in placeholders_of(program.graph) if "constant" in node.meta}
    return {
        spec.arg.name: str(spec.target)
        for spec in program.graph_signature.input_specs
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and spec.arg.name not in folded
    }


def user_inputs(program: ExportedProgram) -> list[fx.Node]:
    """The graph inputs that the caller gives, in order."""
    kinds = {spec.arg.name: spec.kind for spec in program.graph_signature.input_specs}
    return [node for node in placeholders_of(program.graph) if kinds[node.name] is InputKind.USER_INPUT]


def bytes_of(node: fx.Node) -> int:
    """Bytes of the node's value; lists of tensors are counted at the nodes that take them apart."""
    value = node.meta.get("val")
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0


def _storages(values: Iterable[fx.Node]) -> dict[fx.Node, fx.Node]:
    """For each value the one whose memory it shares: a view takes none of its own."""
    storage: dict[fx.Node, fx.Node] = {}
    for node in values:
        base = node.args[0] if node.args else None
        shares = isinstance(base, fx.Node) and base in storage and _is_view(node)
        storage[node] = storage[base] if shares and isinstance(base, fx.Node) else node
    return storage


def _is_view(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return getattr(node.target, "__name__", "") == "getitem"
    first = schema.arguments[0].alias_info if schema.arguments else None
    return first is not None and not first.is_write


def _alive_bytes(
    bytes_of_values: Mapping[fx.Node, int],
    storage: dict[fx.Node, fx.Node],
    made: dict[fx.Node, int],
    last: dict[fx.Node, int],
    count: int,
) -> list[int]:
    """Bytes alive at each operator: each piece of memory from the first of its values to the last use of any."""
    begins: dict[fx.Node, int] = {}
    ends: dict[fx.Node, int] = {}
    sizes: dict[fx.Node, int] = {}
    for node, own in bytes_of_values.items():
        root = storage[node]
        begins[root] = min(begins.get(root, made[node]), made[node])
        ends[root] = max(ends.get(root, last[node]), last[node], made[node])
        sizes[root] = max(sizes.get(root, 0), own)
    change = [0] * (count + 2)
    for root, size in sizes.items():
        change[max(begins[root], 0)] += size
        change[min(ends[root], count) + 1] -= size
    total, alive = 0, []
    for i in range(count):
        total += change[i]
        alive.append(total)
    return alive


def _token(node: fx.Node) -> Any:
    def plain(argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            return _shape(argument)
        if isinstance(argument, list | tuple):
            return tuple(plain(item) for item in argument)
        return str(argument)

    keywords = tuple((name, plain(value)) for name, value in sorted(node.kwargs.items()))
    return (str(node.target), tuple(plain(argument) for argument in node.args), keywords, _shape(node))


def _shape(node: fx.Node) -> Any:
    value = node.meta.get("val")
    if isinstance(value, Tensor):
        return (tuple(value.shape), str(value.dtype))
    return tuple(tuple(each.shape) for each in value) if isinstance(value, list | tuple) else str(value)


def weight_bytes(program: ExportedProgram, stored: Callable[[Tensor], int]) -> dict[str, int]:
    """Bytes that each weight takes in an artifact, by the module's key; `stored` counts those of one."""
    keys = weight_keys(program)
    return {keys[node.name]: stored(node.meta["val"]) for node in placeholders_of(program.graph) if node.name in keys}
