"""Where the weights of a component are read from, one at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from tm_export.exporters.errors import UsageError
from tm_export.exporters.weights.narrow import rounded
from tm_export.models.checkpoints.checkpoint import CheckpointError, Weights


class WeightReader(Protocol):
    """Reads weights by the module's keys."""

    def read(self, key: str) -> Tensor:
        """The tensor, in the dtype that it is stored in; raises `UsageError` if it cannot be read."""
        ...

    def fingerprint(self, keys: Iterable[str]) -> str:
        """Changes when one of these weights does."""
        ...


@dataclass(frozen=True)
class ModuleWeights:
    """Weights that are in memory."""

    tensors: Mapping[str, Tensor]

    def read(self, key: str) -> Tensor:
        """The tensor itself."""
        return self.tensors[key]

    def fingerprint(self, keys: Iterable[str]) -> str:
        """The SHA-256 of their bytes."""
        digest = hashlib.sha256()
        for key in keys:
            digest.update(f"{key} {fingerprint_of(self.tensors[key])}".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class CheckpointWeights:
    """Weights that are in a checkpoint on disk, in a file or a folder."""

    path: Path
    weights: Weights

    def read(self, key: str) -> Tensor:
        """The tensor, mapped from its file."""
        try:
            return self.weights.read(key)
        except CheckpointError as error:
            raise UsageError(str(error)) from error

    def fingerprint(self, keys: Iterable[str]) -> str:
        """The names, sizes and times of the files: reading them all would take as long as the export."""
        files = [self.path] if self.path.is_file() else sorted(self.path.rglob("*"))
        digest = hashlib.sha256()
        for file in files:
            if file.is_file():
                status = file.stat()
                digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class RoundedWeights:
    """Weights as they are after they have been stored in 16 bits."""

    reader: WeightReader

    def read(self, key: str) -> Tensor:
        """The tensor, rounded if it is one that is stored so."""
        return rounded(key, self.reader.read(key).detach())

    def fingerprint(self, keys: Iterable[str]) -> str:
        """That of the weights themselves."""
        return self.reader.fingerprint(keys)


def fingerprint_of(tensor: Tensor) -> str:
    """Equal for tensors of the same shape, dtype and bytes."""
    content = tensor.detach().contiguous().view(-1).view(torch.uint8).numpy()
    return f"{tuple(tensor.shape)} {tensor.dtype} {hashlib.sha256(content.data).hexdigest()}"


def block_weights(
    reader: WeightReader, names: Mapping[str, str], dtypes: Mapping[str, torch.dtype]
) -> dict[str, Tensor]:
    """A block's weights by the names that they have in it.

    Args:
        reader: where they are.
        names: the module's key of each.
        dtypes: the dtype that the block computes with; narrower ones of a checkpoint are widened.
    """
    return {name: reader.read(key).detach().to(dtypes[name]) for name, key in names.items() if name in dtypes}
