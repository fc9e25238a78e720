"""The tensors of a checkpoint by key, none read until it is asked for.

Safetensors and torch files, whole or in shards; torch files without ever unpickling code.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tm_export.models.checkpoints.errors import (
    CheckpointNotFound,
    CodeInCheckpoint,
    MissingKeys,
    UnreadableCheckpoint,
)

SINGLE_FILE: Final = "model.safetensors"
INDEX_FILE: Final = "model.safetensors.index.json"
TORCH_FILE: Final = "pytorch_model.bin"
TORCH_INDEX_FILE: Final = "pytorch_model.bin.index.json"

SAFETENSORS_DTYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The names of dtypes in a safetensors header, of those that we read."""

_KEYS_SHOWN = 5


@dataclass(frozen=True)
class StoredSpec:
    """The shape and dtype of a tensor as it is stored."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def stored_bytes(spec: StoredSpec) -> int:
    """Return how many bytes a tensor takes in its file."""
    return math.prod(spec.shape) * spec.dtype.itemsize


class _TensorFile(Protocol):
    @property
    def specs(self) -> Mapping[str, StoredSpec]: ...

    def read(self, key: str) -> Tensor: ...


@dataclass(frozen=True)
class TensorSource:
    """A checkpoint that stays on disk.

    Only headers have been read, and found to agree with the sizes of their files. No file is kept open:
    a tensor of a safetensors file is mapped from it, and gives its memory back when it is dropped. A torch
    file is mapped whole, as long as the source lives.

    Attributes:
        path: what was opened.
    """

    path: Path
    _files: Mapping[str, _TensorFile]

    @classmethod
    def open(cls, path: Path) -> TensorSource:
        """Open a checkpoint: a file, or a folder that has one or its shards under the usual names.

        Args:
            path: a `.safetensors` file, a torch file, or a folder with `model.safetensors`,
                `pytorch_model.bin`, or the index of their shards.

        Raises:
            CheckpointNotFound: there is none, or a shard is missing.
            UnreadableCheckpoint: a file is truncated, damaged, or no checkpoint.
            CodeInCheckpoint: a torch file holds more than tensors.
            MissingKeys: a shard lacks tensors that the index lists.
        """
        if not path.exists():
            raise CheckpointNotFound(f"{path} does not exist; give a checkpoint's file or folder")
        if path.is_file():
            return cls(path, _by_key(_open_file(path)))
        for name in (SINGLE_FILE, TORCH_FILE):
            if (path / name).is_file():
                return cls(path, _by_key(_open_file(path / name)))
        for name in (INDEX_FILE, TORCH_INDEX_FILE):
            if (path / name).is_file():
                return cls(path, _open_shards(path / name))
        raise CheckpointNotFound(
            f"{path} holds neither {SINGLE_FILE} nor {INDEX_FILE} (nor {TORCH_FILE} or its index); "
            "give the folder that does, or a file itself"
        )

    def keys(self) -> tuple[str, ...]:
        """Return the key of every tensor, in the order of the files."""
        return tuple(self._files)

    def spec(self, key: str) -> StoredSpec:
        """Return shape and dtype of a tensor, from its file's header; the key must be one of `keys`."""
        return self._files[key].specs[key]

    def read(self, key: str) -> Tensor:
        """Return a tensor as it is stored, mapped from its file and not copied.

        Raises:
            UnreadableCheckpoint: the file has been damaged or removed since the source was opened.
        """
        return self._files[key].read(key)


@dataclass(frozen=True)
class _SafetensorsFile:
    path: Path
    size: int
    specs: Mapping[str, StoredSpec]
    places: Mapping[str, int]

    def read(self, key: str) -> Tensor:
        spec, place = self.specs[key], self.places[key]
        if 0 in spec.shape:  # there is nothing to map
            return torch.empty(spec.shape, dtype=spec.dtype)
        try:
            if self.path.stat().st_size != self.size:
                raise UnreadableCheckpoint(f"{self.path} has changed since it was opened; start again")
            # Only this tensor: a mapping of the whole file is refused where the file is larger than memory.
            # Copy-on-write, because torch has no read-only tensors.
            data = np.memmap(self.path, np.uint8, "c", place, (stored_bytes(spec),))
        except OSError as error:
            raise _unreadable_safetensors(self.path, error) from error
        aligned = data if place % spec.dtype.itemsize == 0 else np.array(data)
        return torch.from_numpy(aligned).view(spec.dtype).view(spec.shape)


@dataclass(frozen=True)
class _TorchFile:
    tensors: Mapping[str, Tensor]
    specs: Mapping[str, StoredSpec]

    def read(self, key: str) -> Tensor:
        return self.tensors[key]


def some_keys(keys: Iterable[str]) -> str:
    """Return the first few keys, and how many more there are, for a message."""
    keys = list(keys)
    rest = f" and {len(keys) - _KEYS_SHOWN} more" if len(keys) > _KEYS_SHOWN else ""
    return ", ".join(keys[:_KEYS_SHOWN]) + rest


def _by_key(file: _TensorFile) -> Mapping[str, _TensorFile]:
    return dict.fromkeys(file.specs, file)


def _open_file(path: Path) -> _TensorFile:
    return _open_safetensors(path) if path.suffix == ".safetensors" else _open_torch(path)


def _open_safetensors(path: Path) -> _SafetensorsFile:
    specs: dict[str, StoredSpec] = {}
    places: dict[str, int] = {}
    try:
        with path.open("rb") as start:
            place = 8 + int.from_bytes(start.read(8), "little")
        # With NumPy as its framework, safe_open maps the file to look at and never to write to.
        with safe_open(path, framework="np") as file:
            # It has made sure that the tensors follow one another without a gap, up to the file's end.
            for key in file.offset_keys():
                header = file.get_slice(key)
                specs[key] = StoredSpec(tuple(header.get_shape()), _dtype(path, key, header.get_dtype()))
                places[key] = place
                place += stored_bytes(specs[key])
        return _SafetensorsFile(path, path.stat().st_size, specs, places)
    except (SafetensorError, OSError) as error:
        raise _unreadable_safetensors(path, error) from error


def _dtype(path: Path, key: str, name: str) -> torch.dtype:
    if name not in SAFETENSORS_DTYPES:
        raise UnreadableCheckpoint(
            f"{path}: {key} is stored as {name}; convert it to one of {', '.join(SAFETENSORS_DTYPES)}"
        )
    return SAFETENSORS_DTYPES[name]


def _unreadable_safetensors(path: Path, error: Exception) -> UnreadableCheckpoint:
    return UnreadableCheckpoint(f"{path} is truncated or no safetensors file ({error}); download it again")


def _open_torch(path: Path) -> _TorchFile:
    try:
        # Only the zip form can be mapped; older files are read whole.
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise CodeInCheckpoint(
            f"{path} does not hold tensors alone; what else it holds may be code, so it was not read. "
            "Save its state_dict as safetensors, on a machine where you trust it"
        ) from error
    except Exception as error:  # what torch raises for bytes of any other kind has no common class
        raise UnreadableCheckpoint(f"{path} is truncated or no torch file; download it again") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UnreadableCheckpoint(f"{path} holds no plain state_dict of tensors by key; save it as one")
    return _TorchFile(content, {key: StoredSpec(tuple(value.shape), value.dtype) for key, value in content.items()})


class _ShardIndex(BaseModel):
    weight_map: dict[str, str]


def _open_shards(index: Path) -> Mapping[str, _TensorFile]:
    try:
        weight_map = _ShardIndex.model_validate_json(index.read_bytes()).weight_map
    except ValidationError as error:
        raise UnreadableCheckpoint(
            f"{index} is damaged: it has no 'weight_map' from keys to file names; download it again"
        ) from error

    shards: dict[str, _TensorFile] = {}
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name:
            raise UnreadableCheckpoint(f"{index} names the shard {name!r}, which is not a file beside it")
        if not (index.parent / name).is_file():
            raise CheckpointNotFound(f"{index} names the shard {name}, which is not there; download it too")
        shards[name] = _open_file(index.parent / name)
    missing = [key for key, name in weight_map.items() if key not in shards[name].specs]
    if missing:
        raise MissingKeys(f"the shards of {index} lack {some_keys(missing)}, which it lists; download them again")
    return {key: shards[name] for key, name in sorted(weight_map.items(), key=lambda item: item[1])}
