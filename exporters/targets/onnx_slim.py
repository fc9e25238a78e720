"""Clean a graph up with onnxslim, without its weights: it would copy them many times over."""

from __future__ import annotations

import numpy as np
import onnx
import onnxslim

from tm_export.exporters.targets.onnx_data import EXTERNAL_FROM_BYTES


def slimmed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in fewer operators; `model` itself is used up."""
    held = _take_weights(model)
    slim: onnx.ModelProto = onnxslim.slim(model)
    _give_back(slim, held)
    _fold_transposes(slim)
    return slim


def _take_weights(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Make an input of every initializer that is stored outside the graph; returns them."""
    graph = model.graph
    held = {}
    kept = []
    for tensor in graph.initializer:
        if len(tensor.raw_data) >= EXTERNAL_FROM_BYTES and tensor.data_type == onnx.TensorProto.FLOAT:
            taken = onnx.TensorProto()
            taken.CopyFrom(tensor)
            held[tensor.name] = taken
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            kept.append(tensor)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return held


def _give_back(model: onnx.ModelProto, held: dict[str, onnx.TensorProto]) -> None:
    graph = model.graph
    inputs = [value for value in graph.input if value.name not in held]
    del graph.input[:]
    graph.input.extend(inputs)
    read = {name for node in graph.node for name in node.input}
    graph.initializer.extend(tensor for name, tensor in held.items() if name in read)


def _fold_transposes(model: onnx.ModelProto) -> None:
    """Turn the weights themselves, where the graph would turn them at every run."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    turned = []
    for node in graph.node:
        if node.op_type == "Transpose" and node.input[0] in weights:
            tensor = weights[node.input[0]]
            order = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), None)
            values = np.ascontiguousarray(onnx.numpy_helper.to_array(tensor).transpose(order))
            made = onnx.numpy_helper.from_array(values, node.output[0])
            readers[tensor.name] -= 1
            if readers[tensor.name]:
                graph.initializer.append(made)
            else:
                tensor.CopyFrom(made)
            turned.append(node)
    for node in turned:
        graph.node.remove(node)
