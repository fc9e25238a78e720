"""An ONNX file taken apart: the graph, and its weights, which become inputs of it.

Blocks that are the same program with other weights then have the same graph, and can be run by one session. Where the
weights are in a file of their own they are mapped, not read.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from tm_export.runtime.engines.base import Array, EngineError

_FLOATS: Final = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)

_LEAST_BYTES: Final = 64
"""Smaller ones are numbers that operators want to know when a session opens, such as those by which `Resize` scales."""


@dataclass(frozen=True)
class OnnxParts:
    """A serialized model without weights, and the weights by the names of its inputs."""

    graph: bytes
    weights: Mapping[str, Array]


def take_apart(artifact: Path) -> OnnxParts:
    """Read an `.onnx` file and map its file of weights; raises `EngineError` if they do not fit each other."""
    model = onnx.load(str(artifact), load_external_data=False)
    files: dict[str, memoryview] = {}
    weights: dict[str, Array] = {}
    kept = []
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            weights[tensor.name] = _mapped(tensor, artifact, files)
        elif tensor.data_type in _FLOATS and len(tensor.raw_data) >= _LEAST_BYTES:
            weights[tensor.name] = onnx.numpy_helper.to_array(tensor)
        else:
            kept.append(tensor)
            continue
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return OnnxParts(model.SerializeToString(deterministic=True), weights)


def _mapped(tensor: onnx.TensorProto, artifact: Path, files: dict[str, memoryview]) -> Array:
    place = {entry.key: entry.value for entry in tensor.external_data}
    name, offset = place["location"], int(place.get("offset", 0))
    if Path(name).name != name:
        raise EngineError(f"weight {tensor.name!r} of {artifact} lies in {name!r}, outside its folder: export again")
    if name not in files:
        with artifact.with_name(name).open("rb") as file:
            files[name] = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    size = math.prod(tensor.dims) * dtype.itemsize
    content = files[name][offset : offset + size]
    if offset < 0 or len(content) != size or int(place.get("length", size)) != size:
        raise EngineError(
            f"weight {tensor.name!r} of {artifact} is {size} bytes at {offset} of {name}, which has "
            f"{len(files[name])} bytes: export again"
        )
    return np.frombuffer(content, dtype).reshape(tuple(tensor.dims))
