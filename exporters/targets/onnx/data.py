"""The weights of ONNX graphs in a file beside them: one copy of what several graphs have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from tm_export.exporters.targets.onnx.weights import LARGE_BYTES, WeightedGraph

WEIGHTS: Final = "weights.data"

_ALIGNMENT: Final = 4096
"""Where a tensor begins: only whole pages can be mapped."""


def write_external_data(graphs: Iterable[WeightedGraph], path: Path) -> None:
    """Write all weights, and what else is large in the graphs, to the file at `path`, equal ones only once.

    The models then name the file as that of their initializers, and must be written to the same folder. There is no
    file if there is nothing to write.
    """
    places: dict[bytes, tuple[int, int]] = {}
    with path.open("wb") as file:

        def place(content: bytes | memoryview) -> tuple[int, int]:
            digest = hashlib.sha256(content).digest()
            if digest not in places:
                file.write(bytes(-file.tell() % _ALIGNMENT))
                places[digest] = (file.tell(), len(content))
                file.write(content)
            return places[digest]

        for each in graphs:
            graph = each.model.graph
            for tensor in graph.initializer:
                if len(tensor.raw_data) >= LARGE_BYTES:
                    found = place(tensor.raw_data)
                    tensor.ClearField("raw_data")
                    _refer(tensor, path.name, *found)
            for name, array in each.weights.items():
                kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
                tensor = graph.initializer.add(name=name, data_type=kind, dims=array.shape)
                _refer(tensor, path.name, *place(np.ascontiguousarray(array).data.cast("B")))
    if not places:
        path.unlink()


def _refer(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
