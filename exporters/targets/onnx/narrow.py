"""16-bit weights in a graph that computes in 32: each is widened by an operator right before it is first read.

Of a table that rows are taken from, only these rows are widened: an embedding of 131 million numbers would take half a
gigabyte for each token. It is done to the finished graph, since the converters would compute such operators themselves.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx

from tm_export.exporters.targets.onnx.weights import WeightedGraph
from tm_export.exporters.weights.narrow import MIN_ELEMENTS

TAKES_ROWS: Final = "Gather"


def with_narrow_weights(found: WeightedGraph) -> WeightedGraph:
    """Every large weight in 16 bits; `found` itself is used up."""
    graph = found.model.graph
    wide = {name for name, array in found.weights.items() if array.size >= MIN_ELEMENTS}
    weights = {_narrow(name) if name in wide else name: array for name, array in found.weights.items()}
    for name in wide:
        weights[_narrow(name)] = weights[_narrow(name)].astype(np.float16)
    nodes: list[onnx.NodeProto] = []
    widened: set[str] = set()
    for node in graph.node:
        if node.op_type == TAKES_ROWS and node.input[0] in wide:
            (rows,) = node.output
            node.input[0], node.output[0] = _narrow(node.input[0]), _narrow(rows)
            nodes += [node, _widening(rows)]
            continue
        for name in node.input:
            if name in wide - widened:
                widened.add(name)
                nodes.append(_widening(name))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return WeightedGraph(found.model, weights)


def _narrow(name: str) -> str:
    return f"{name}.fp16"


def _widening(name: str) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [_narrow(name)], [name], name=f"{name}.widen", to=onnx.TensorProto.FLOAT)
