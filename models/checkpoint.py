"""Load a checkpoint's weights into a module, or say in one message what is wrong with it.

Reads safetensors, whole or in shards, and torch files without ever unpickling code.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

Rename = Callable[[str], str | None]
Adapt = Callable[[Tensor], Tensor]

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
KEYS_SHOWN = 5


class CheckpointError(ValueError):
    """A checkpoint cannot be loaded."""


class CheckpointNotFound(CheckpointError):
    """There is no checkpoint at the path."""


class UnreadableCheckpoint(CheckpointError):
    """A file is truncated, damaged, or no checkpoint."""


class CodeInCheckpoint(CheckpointError):
    """A torch file holds pickled objects other than tensors, which could run code."""


class MissingKeys(CheckpointError):
    """The module has tensors that the checkpoint lacks."""


class UnexpectedKeys(CheckpointError):
    """The checkpoint has tensors that the module lacks."""


class WrongTensor(CheckpointError):
    """A tensor has another shape or kind of number than the module's."""


class NotFinite(CheckpointError):
    """A tensor holds NaN or infinity."""


class _ShardIndex(BaseModel):
    weight_map: dict[str, str]


def load_weights(
    module: nn.Module,
    path: Path,
    *,
    rename: Rename | None = None,
    adapt: Mapping[str, Adapt] | None = None,
) -> None:
    """Load every parameter and persistent buffer of the module; nothing changes if it fails.

    Tensors take the dtype of the module's. Those of a safetensors file that have it already stay mapped from
    the file and are not copied. A module on the meta device leaves it.

    Args:
        module: what to load into.
        path: a `.safetensors` file, a torch file, or a folder with `model.safetensors` or its sharded form,
            `model.safetensors.index.json`.
        rename: from the checkpoint's key to the module's; None says that the tensor is not wanted.
        adapt: for a module's key, what to do to the checkpoint's tensor first; may raise ValueError.

    Raises:
        CheckpointError: one of its subclasses, naming the file, the key and what to do.
    """
    source = read_tensors(Path(path))
    tensors: dict[str, Tensor] = {}
    for key, tensor in source.items():
        name = rename(key) if rename else key
        if name is not None:
            tensors[name] = tensor
    for name, change in (adapt or {}).items():
        if name in tensors:
            try:
                tensors[name] = change(tensors[name])
            except ValueError as error:
                raise WrongTensor(f"{path}: {name} cannot be adapted to the model: {error}") from error

    expected = module.state_dict()
    _check_keys(path, expected, tensors)
    for key, tensor in tensors.items():
        _check_tensor(path, key, tensor, expected[key])
    module.load_state_dict({key: tensors[key].to(expected[key].dtype) for key in expected}, assign=True)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a checkpoint by key; see `load_weights` for the forms of `path`.

    Raises:
        CheckpointError: if there is no checkpoint, or it cannot be read.
    """
    if not path.exists():
        raise CheckpointNotFound(f"{path} does not exist; give a checkpoint's file or folder")
    if not path.is_dir():
        return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if (path / SINGLE_FILE).is_file():
        return _read_safetensors(path / SINGLE_FILE)
    if (path / INDEX_FILE).is_file():
        return _read_shards(path / INDEX_FILE)
    raise CheckpointNotFound(
        f"{path} holds neither {SINGLE_FILE} nor {INDEX_FILE}; "
        "give the folder that does, or a file itself, such as pytorch_model.bin"
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise UnreadableCheckpoint(
            f"{path} is truncated or no safetensors file ({error}); download it again"
        ) from error


def _read_shards(index: Path) -> dict[str, Tensor]:
    try:
        weight_map = _ShardIndex.model_validate_json(index.read_bytes()).weight_map
    except ValidationError as error:
        raise UnreadableCheckpoint(
            f"{index} is damaged: it has no 'weight_map' from keys to file names; download it again"
        ) from error

    tensors: dict[str, Tensor] = {}
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name:
            raise UnreadableCheckpoint(f"{index} names the shard {name!r}, which is not a file beside it")
        if not (index.parent / name).is_file():
            raise CheckpointNotFound(f"{index} names the shard {name}, which is not there; download it too")
        tensors.update(_read_safetensors(index.parent / name))
    missing = [key for key in weight_map if key not in tensors]
    if missing:
        raise MissingKeys(f"the shards of {index} lack {_some(missing)}, which it lists; download them again")
    return tensors


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CodeInCheckpoint(
            f"{path} does not hold tensors alone; what else it holds may be code, so it was not read. "
            "Save its state_dict as safetensors, on a machine where you trust it"
        ) from error
    except Exception as error:  # what torch raises for bytes of any other kind has no common class
        raise UnreadableCheckpoint(f"{path} is truncated or no torch file; download it again") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UnreadableCheckpoint(f"{path} holds no plain state_dict of tensors by key; save it as one")
    return content


def _check_keys(path: Path, expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    missing = [key for key in expected if key not in tensors]
    if missing:
        raise MissingKeys(
            f"{path} lacks {_some(missing)}; check that the checkpoint belongs to this model and is complete"
        )
    extra = [key for key in tensors if key not in expected]
    if extra:
        raise UnexpectedKeys(
            f"{path} has {_some(extra)}, which the model does not; check that the checkpoint belongs to it"
        )


def _check_tensor(path: Path, key: str, tensor: Tensor, expected: Tensor) -> None:
    if tensor.shape != expected.shape:
        raise WrongTensor(
            f"{path}: {key} has shape {list(tensor.shape)}, the model needs {list(expected.shape)}; "
            "check that the checkpoint belongs to this size of the model"
        )
    if tensor.is_floating_point() != expected.is_floating_point():
        raise WrongTensor(f"{path}: {key} is {tensor.dtype}, the model needs {expected.dtype}")
    if not torch.isfinite(tensor).all():
        raise NotFinite(f"{path}: {key} holds NaN or infinity; the checkpoint is damaged, download it again")


def _some(keys: Iterable[str]) -> str:
    keys = list(keys)
    rest = f" and {len(keys) - KEYS_SHOWN} more" if len(keys) > KEYS_SHOWN else ""
    return ", ".join(keys[:KEYS_SHOWN]) + rest
