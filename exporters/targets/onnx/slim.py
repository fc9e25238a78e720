"""Clean a graph up with onnxslim, without its weights: it would copy them many times over."""

from __future__ import annotations

import numpy as np
import onnx
import onnxslim

from tm_export.exporters.targets.onnx.weights import WeightedGraph


def slimmed(graph: WeightedGraph) -> WeightedGraph:
    """The graph in fewer operators, and the weights that it still reads; `graph` itself is used up.

    An input that nothing reads stays, for variants may share a signature. Weights are inputs no longer, and not yet
    initializers: `write_external_data` makes them that.
    """
    declared = [value for value in graph.model.graph.input if value.name not in graph.weights]
    slim: onnx.ModelProto = onnxslim.slim(graph.model)
    left = {value.name: value for value in slim.graph.input}
    inputs = [left.get(value.name, value) for value in declared]
    del slim.graph.input[:]
    slim.graph.input.extend(inputs)
    return _with_turned_weights(WeightedGraph(slim, graph.weights))


def _with_turned_weights(graph: WeightedGraph) -> WeightedGraph:
    """The weights themselves are transposed, where the graph would do it at every run."""
    nodes = graph.model.graph.node
    weights = dict(graph.weights)
    turned = [node for node in nodes if node.op_type == "Transpose" and node.input[0] in weights]
    for node in turned:
        order = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), None)
        weights[node.output[0]] = np.transpose(weights[node.input[0]], order)
        nodes.remove(node)
    read = {name for node in nodes for name in node.input} | {value.name for value in graph.model.graph.output}
    return WeightedGraph(graph.model, {name: array for name, array in weights.items() if name in read})
