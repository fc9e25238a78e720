"""16-bit weights in a graph that computes in 32: each is widened by an operator right before it is first read.

It is done to the finished graph, since the converters would compute such an operator themselves.
"""

from __future__ import annotations

import numpy as np
import onnx

from tm_export.exporters.narrow import MIN_ELEMENTS
from tm_export.exporters.targets.onnx_weights import WeightedGraph


def with_narrow_weights(found: WeightedGraph) -> WeightedGraph:
    """Every large weight in 16 bits; `found` itself is used up."""
    graph = found.model.graph
    wide = {name: array for name, array in found.weights.items() if array.size >= MIN_ELEMENTS}
    weights = {name: array for name, array in found.weights.items() if name not in wide}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for name in node.input:
            if name in wide:
                narrow = f"{name}.fp16"
                weights[narrow] = wide.pop(name).astype(np.float16)
                nodes.append(
                    onnx.helper.make_node("Cast", [narrow], [name], name=f"{name}.widen", to=onnx.TensorProto.FLOAT)
                )
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return WeightedGraph(found.model, weights)
