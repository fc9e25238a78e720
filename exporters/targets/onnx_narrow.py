"""16-bit weights in a graph that computes in 32: each is widened by an operator right before it is first read.

It is done to the finished graph, since the converters would compute such an operator themselves.
"""

from __future__ import annotations

import numpy as np
import onnx

from tm_export.exporters.narrow import MIN_ELEMENTS


def narrow_initializers(model: onnx.ModelProto) -> None:
    """Narrow every large fp32 initializer of the graph in place."""
    graph = model.graph
    wide = {
        tensor.name: tensor
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and _elements(tensor) >= MIN_ELEMENTS
    }
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for name in node.input:
            if name in wide:
                nodes.append(_narrow(wide.pop(name)))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _narrow(tensor: onnx.TensorProto) -> onnx.NodeProto:
    """Make the tensor a narrow one of another name; returns the operator that gives the old name its value."""
    name, narrow = tensor.name, f"{tensor.name}.fp16"
    values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, narrow))
    return onnx.helper.make_node("Cast", [narrow], [name], name=f"{name}.widen", to=onnx.TensorProto.FLOAT)


def _elements(tensor: onnx.TensorProto) -> int:
    return int(np.prod(tensor.dims))
