"""The weights of ONNX graphs in a file beside them: one copy of what several graphs have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import onnx

WEIGHTS: Final = "weights.data"

EXTERNAL_FROM_BYTES: Final = 1024
"""Smaller tensors stay in the graph."""

_ALIGNMENT: Final = 4096
"""Where a tensor begins: only whole pages can be mapped."""


def write_external_data(models: Iterable[onnx.ModelProto], path: Path) -> None:
    """Move the tensors of the models to the file at `path`, equal ones only once; no file if there are none.

    The graphs must be written to the same folder, since they name the file without it.
    """
    places: dict[bytes, tuple[int, int]] = {}
    with path.open("wb") as file:
        for model in models:
            for tensor in model.graph.initializer:
                if not tensor.HasField("raw_data") or len(tensor.raw_data) < EXTERNAL_FROM_BYTES:
                    continue
                content = tensor.raw_data
                digest = hashlib.sha256(content).digest()
                if digest not in places:
                    file.write(bytes(-file.tell() % _ALIGNMENT))
                    places[digest] = (file.tell(), len(content))
                    file.write(content)
                _refer(tensor, path.name, *places[digest])
    if not places:
        path.unlink()


def _refer(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
