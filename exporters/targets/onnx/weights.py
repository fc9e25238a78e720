"""A graph and its large weights, held apart: the weights as arrays, which nothing copies until they are written.

Inside a `ModelProto` every step would copy them: into it, out of it for onnxslim, and for each change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import onnx
import onnx_ir
from numpy.typing import NDArray

Array = NDArray[Any]

LARGE_BYTES: Final = 1024
"""Smaller tensors stay in the graph."""


@dataclass(frozen=True)
class WeightedGraph:
    """A model, and the values of weights that its graph names and does not hold."""

    model: onnx.ModelProto
    weights: Mapping[str, Array]


def without_weights(model: onnx_ir.Model) -> WeightedGraph:
    """Take the large fp32 weights out of a model, whose graph then has inputs in place of them; it is used up."""
    graph = model.graph
    weights: dict[str, Array] = {}
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        assert tensor is not None
        if tensor.dtype is onnx_ir.DataType.FLOAT and tensor.nbytes >= LARGE_BYTES:
            weights[name] = tensor.numpy()
            del graph.initializers[name]
            value.const_value = None
            graph.inputs.append(value)
    return WeightedGraph(onnx_ir.to_proto(model), weights)
