"""How the tensors of a rewritten program follow from the weights of the one that it was made from.

A rewrite may fold weights: cut them into parts, turn them, scale them. For blocks that are the same program with other
weights the rewrite is done once, and its recipe is followed for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx


@dataclass(frozen=True)
class Step:
    """Tensors by name, computed from weights by name; what else is read is in the graph as an attribute."""

    graph_module: fx.GraphModule
    reads: tuple[str, ...]
    makes: tuple[str, ...]


@dataclass(frozen=True)
class Recipe:
    """What to make of the weights: first `step`, then `copies` (from the new name to that of its source)."""

    step: Step | None = None
    copies: Mapping[str, str] = field(default_factory=dict)

    def follow(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All tensors of the rewritten program that come from weights, the unchanged ones among them."""
        tensors = dict(weights)
        if self.step is not None:
            with torch.no_grad():
                made = self.step.graph_module(*(weights[name] for name in self.step.reads))
            tensors |= dict(zip(self.step.makes, made, strict=True))
        return tensors | {name: tensors[source] for name, source in self.copies.items() if source in tensors}


def step_of(
    graph: fx.Graph, weights: Mapping[fx.Node, str], constants: Mapping[fx.Node, Tensor], made: Mapping[str, fx.Node]
) -> Step | None:
    """The part of a graph that computes `made` from weights; None if no weight is read.

    Args:
        graph: the whole graph.
        weights: inputs of the graph that are weights, and their names.
        constants: inputs of the graph that are not, and their values.
        made: the results, by the names that they get.
    """
    wanted: set[fx.Node] = set()
    pending = list(made.values())
    while pending:
        node = pending.pop()
        if node not in wanted:
            wanted.add(node)
            pending += node.all_input_nodes
    from_weights = _reached(graph, wanted, weights)
    results = {name: node for name, node in made.items() if node in from_weights}
    if not results:
        return None
    part = fx.Graph()
    holder = torch.nn.Module()
    copies: dict[fx.Node, fx.Node] = {}
    reads = [node for node in weights if node in wanted]
    for i, node in enumerate(reads):
        copies[node] = part.placeholder(f"weight_{i}")
    for node in graph.nodes:
        if node not in wanted or node in copies:
            continue
        if node in constants:
            name = f"constant_{len(list(holder.buffers()))}"
            holder.register_buffer(name, constants[node])
            copies[node] = part.get_attr(name)
        else:
            copies[node] = part.node_copy(node, copies.__getitem__)
    part.output(tuple(copies[node] for node in results.values()))
    return Step(fx.GraphModule(holder, part), tuple(weights[node] for node in reads), tuple(results))


def _reached(graph: fx.Graph, wanted: set[fx.Node], weights: Mapping[fx.Node, str]) -> set[fx.Node]:
    reached = set(weights)
    for node in graph.nodes:
        if node in wanted and any(source in reached for source in node.all_input_nodes):
            reached.add(node)
    return reached
