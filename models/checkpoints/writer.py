"""Write a checkpoint piece by piece, so that it may be larger than memory.

The form is safetensors, in shards with an index where one file would be too large.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from tm_export.models.checkpoints.tensor_source import (
    INDEX_FILE,
    SAFETENSORS_DTYPES,
    SINGLE_FILE,
    StoredSpec,
    stored_bytes,
)

MAX_SHARD_BYTES: Final = 2 * 10**9

Pieces = Callable[[str, StoredSpec], Iterable[Tensor]]
"""The elements of a tensor in order, as one-dimensional tensors of its dtype."""

_DTYPE_NAMES: Final = {dtype: name for name, dtype in SAFETENSORS_DTYPES.items()}


def write_checkpoint(
    folder: Path,
    specs: Mapping[str, StoredSpec],
    pieces: Pieces,
    wrote: Callable[[Path], None],
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write tensors as `model.safetensors`, or as shards and `model.safetensors.index.json`.

    Args:
        folder: where to; it must exist.
        specs: key, shape and dtype of every tensor.
        pieces: their values; asked for one tensor at a time.
        wrote: called with each file once it is whole.
        max_shard_bytes: no file holds more, unless a single tensor does.

    Raises:
        OSError: a file cannot be written.
    """
    shards = plan_shards(specs, max_shard_bytes)
    if len(shards) == 1:
        write_safetensors(folder / SINGLE_FILE, specs, pieces)
        wrote(folder / SINGLE_FILE)
        return
    weight_map: dict[str, str] = {}
    for number, keys in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_safetensors(folder / name, {key: specs[key] for key in keys}, pieces)
        wrote(folder / name)
        weight_map.update(dict.fromkeys(keys, name))
    total = sum(stored_bytes(spec) for spec in specs.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n")


def plan_shards(specs: Mapping[str, StoredSpec], max_shard_bytes: int) -> list[list[str]]:
    """Return the keys of each shard: in order, each shard as full as it may be."""
    shards: list[list[str]] = [[]]
    filled = 0
    for key, spec in specs.items():
        size = stored_bytes(spec)
        if shards[-1] and filled + size > max_shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(key)
        filled += size
    return shards


def write_safetensors(path: Path, specs: Mapping[str, StoredSpec], pieces: Pieces) -> None:
    """Write one safetensors file, with no more than one piece of a tensor in memory.

    Raises:
        OSError: it cannot be written.
    """
    # The widest numbers first, so that every tensor begins at a multiple of its own width.
    ordered = dict(sorted(specs.items(), key=lambda item: -item[1].dtype.itemsize))
    with path.open("wb") as file:
        file.write(_header(ordered))
        for key, spec in ordered.items():
            start = file.tell()
            for piece in pieces(key, spec):
                assert piece.dtype == spec.dtype, key
                file.write(piece.contiguous().view(torch.uint8).numpy().data)
            assert file.tell() - start == stored_bytes(spec), key


def _header(specs: Mapping[str, StoredSpec]) -> bytes:
    """The length of what follows, then each tensor's dtype, shape and place as JSON, padded to eight bytes."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key, spec in specs.items():
        begin, end = end, end + stored_bytes(spec)
        entries[key] = {"dtype": _DTYPE_NAMES[spec.dtype], "shape": spec.shape, "data_offsets": (begin, end)}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
