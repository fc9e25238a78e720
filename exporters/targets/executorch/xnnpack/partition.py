"""Which operators XNNPACK's delegate gets: what its partitioner takes, but for what then fails."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import networkx
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.fx.passes.infra.partitioner import Partition

MOST_DIMENSIONS: Final = 6
"""XNNPACK's tensors have no more (XNN_MAX_TENSOR_DIMS); a program with one that has does not load."""


class LoadablePartitioner(XnnpackPartitioner):  # type: ignore[misc]
    """XNNPACK's own partitioner, without the operators on tensors of more than six dimensions, or that give one number.

    A single number comes out of the delegate as an array that holds it. And where delegates wait for each other, which
    the partitioner does not notice and lowering then stops at, they are taken apart.
    """

    def get_matched_nodes_from_configs(self, ep: ExportedProgram) -> list[list[fx.Node]]:
        """Groups of nodes that go into the delegate together, those left out that it cannot hold."""
        groups: list[list[fx.Node]] = super().get_matched_nodes_from_configs(ep)
        return [group for group in groups if all(map(_holds, group))]

    def generate_partitions(self, ep: ExportedProgram) -> list[Partition]:
        """The delegates, none of which waits for another that waits for it."""
        partitions: list[Partition] = super().generate_partitions(ep)
        parts = [set(partition.nodes) for partition in partitions]
        if not _circle(ep.graph, parts):
            return partitions
        groups = {node: group for group in map(frozenset, self.get_matched_nodes_from_configs(ep)) for node in group}
        apart = without_cycles(ep.graph, parts, groups)
        in_order = [[node for node in ep.graph.nodes if node in part] for part in apart]
        return [Partition(id=i, nodes=nodes) for i, nodes in enumerate(in_order)]


def without_cycles(
    graph: fx.Graph, parts: Sequence[set[fx.Node]], groups: Mapping[fx.Node, Collection[fx.Node]]
) -> list[set[fx.Node]]:
    """Cut parts of a graph until no two of them wait for each other, directly or through what is between them.

    A part is cut into what can run before any other of the circle has run, and the rest; nodes of a group stay
    together. One that cannot be cut so is left out.
    """
    parts = list(parts)
    while circle := _circle(graph, parts):
        largest_first = sorted(circle, key=lambda i: -len(parts[i]))
        behind = {i: _behind(graph, (node for j in circle if j != i for node in parts[j])) for i in circle}
        for i in largest_first:
            late = {node for node in parts[i] if not behind[i].isdisjoint(groups.get(node, (node,)))}
            if late and late != parts[i]:
                parts[i : i + 1] = [parts[i] - late, late]
                break
        else:
            parts.pop(largest_first[-1])
    return parts


def _circle(graph: fx.Graph, parts: Sequence[Collection[fx.Node]]) -> list[int]:
    """The numbers of parts that wait for each other; none where all can run one after another."""
    part_of: dict[fx.Node, object] = {node: i for i, part in enumerate(parts) for node in part}
    waits = networkx.DiGraph()
    for node in graph.nodes:
        for user in node.users:
            one, other = part_of.get(node, node), part_of.get(user, user)
            if one != other:
                waits.add_edge(one, other)
    for component in networkx.strongly_connected_components(waits):
        if len(component) > 1:
            return sorted(each for each in component if isinstance(each, int))
    return []


def _behind(graph: fx.Graph, nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """All that follows from these nodes."""
    found: set[fx.Node] = set(nodes)
    start = set(found)
    for node in graph.nodes:
        if not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found - start


def _holds(node: fx.Node) -> bool:
    if 0 in _ranks(node.meta["val"]):
        return False
    return all(rank <= MOST_DIMENSIONS for each in (node, *node.all_input_nodes) for rank in _ranks(each.meta["val"]))


def _ranks(value: Any) -> list[int]:
    if isinstance(value, tuple | list):
        return [rank for each in value for rank in _ranks(each)]
    return [value.dim()] if isinstance(value, Tensor) else []
