"""Delegates that wait for each other are taken apart, by graphs made by hand and at random."""

import networkx
from hypothesis import given
from hypothesis import strategies as st
from torch import fx

from tm_export.exporters.targets.executorch.xnnpack.partition import without_cycles


def graph_of(inputs: list[list[int]]) -> tuple[fx.Graph, list[fx.Node]]:
    """A graph whose node i reads these earlier nodes, all of which read one input."""
    graph = fx.Graph()
    x = graph.placeholder("x")
    nodes: list[fx.Node] = []
    for reads in inputs:
        nodes.append(graph.call_function(max, tuple(nodes[i] for i in reads) or (x,)))
    return graph, nodes


def is_runnable(graph: fx.Graph, parts: list[set[fx.Node]]) -> bool:
    names = {node: f"part {i}" for i, part in enumerate(parts) for node in part}
    waits = networkx.DiGraph(
        (names.get(node, node.name), names.get(user, user.name)) for node in graph.nodes for user in node.users
    )
    waits.remove_edges_from([(name, name) for name in waits.nodes])
    return bool(networkx.is_directed_acyclic_graph(waits))


def test_two_that_wait_for_each_other() -> None:
    graph, (a, b, c, d) = graph_of([[], [], [0], [1]])  # c reads a, d reads b
    parts = without_cycles(graph, [{a, d}, {b, c}], {})
    assert is_runnable(graph, parts) and not is_runnable(graph, [{a, d}, {b, c}])
    assert sorted(map(len, parts)) == [1, 1, 2]


def test_what_belongs_together_stays_together() -> None:
    graph, (a, b, c, d) = graph_of([[], [], [0], [1]])
    parts = without_cycles(graph, [{a, d}, {b, c}], {a: {a, d}, d: {a, d}})
    assert {a, d} in parts and {b} in parts and {c} in parts


def test_parts_that_can_run_are_left_alone() -> None:
    graph, (a, b, c, d) = graph_of([[], [0], [1], [2]])
    assert without_cycles(graph, [{a, b}, {c, d}], {}) == [{a, b}, {c, d}]


@given(st.data())
def test_any_parts_of_any_graph(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 12))
    inputs = [data.draw(st.lists(st.integers(0, max(0, i - 1)), max_size=2)) if i else [] for i in range(size)]
    graph, nodes = graph_of(inputs)
    numbers = [data.draw(st.integers(0, 4)) for _ in nodes]
    whole = [{node for node, number in zip(nodes, numbers, strict=True) if number == i} for i in range(1, 5)]
    parts = without_cycles(graph, [part for part in whole if part], {})
    assert is_runnable(graph, parts)
    assert all(any(part <= each for each in whole) for part in parts)
    assert sum(map(len, parts)) == len(set().union(*parts))
