"""Load a checkpoint's weights into a module, or say in one message what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from tm_export.models.checkpoints.errors import (
    CheckpointError,
    CheckpointNotFound,
    CodeInCheckpoint,
    MissingKeys,
    NotFinite,
    UnexpectedKeys,
    UnreadableCheckpoint,
    WrongTensor,
)
from tm_export.models.checkpoints.finite import is_finite
from tm_export.models.checkpoints.tensor_source import StoredSpec, TensorSource, some_keys

__all__ = [
    "Adapt",
    "CheckpointError",
    "CheckpointNotFound",
    "CodeInCheckpoint",
    "MissingKeys",
    "NotFinite",
    "Rename",
    "UnexpectedKeys",
    "UnreadableCheckpoint",
    "Weights",
    "WrongTensor",
    "assign_weights",
    "load_weights",
    "open_weights",
]

Rename = Callable[[str], str | None]
Adapt = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Weights:
    """A checkpoint under a module's own keys: found to fit the module, its tensors still on disk.

    It can be sent to another process where its `adapt` functions can: of safetensors, only paths and specs go.
    """

    _source: TensorSource
    _published: Mapping[str, str]
    _adapt: Mapping[str, Adapt]

    def keys(self) -> tuple[str, ...]:
        """Return the module's keys."""
        return tuple(self._published)

    def read(self, key: str) -> Tensor:
        """Return the tensor for one of the module's keys, in the dtype that it is stored in.

        What needs no adapting is mapped from its file; drop it to give the memory back.

        Raises:
            WrongTensor: it cannot be adapted to the module.
            NotFinite: it holds NaN or infinity.
            UnreadableCheckpoint: the file has been damaged or removed since the checkpoint was opened.
        """
        tensor = self._source.read(self._published[key])
        if key in self._adapt:
            try:
                tensor = self._adapt[key](tensor)
            except ValueError as error:
                raise WrongTensor(f"{self._source.path}: {key} cannot be adapted to the model: {error}") from error
        if not is_finite(tensor):
            raise NotFinite(
                f"{self._source.path}: {key} holds NaN or infinity; the checkpoint is damaged, download it again"
            )
        return tensor


def open_weights(
    module: nn.Module,
    path: Path,
    *,
    rename: Rename | None = None,
    adapt: Mapping[str, Adapt] | None = None,
) -> Weights:
    """Open a checkpoint and check from its headers that it fits the module, which may be on the meta device.

    Args:
        module: what the weights are for: every parameter and persistent buffer of it must be there.
        path: a file or a folder; see `TensorSource.open`.
        rename: from the checkpoint's key to the module's; None says that the tensor is not wanted. Of two
            keys with the same name, as tied tensors have, the first is read.
        adapt: for a module's key, what to do to the checkpoint's tensor first; may raise ValueError.

    Raises:
        CheckpointError: one of its subclasses, naming the file, the key and what to do.
    """
    source = TensorSource.open(Path(path))
    published: dict[str, str] = {}
    for key in source.keys():  # noqa: SIM118 - not a mapping
        name = rename(key) if rename else key
        if name is not None:
            published.setdefault(name, key)

    expected = module.state_dict()
    _check_keys(path, expected, published)
    weights = Weights(source, {key: published[key] for key in expected}, adapt or {})
    for key, tensor in expected.items():
        if key in weights._adapt:
            adapted = weights.read(key)
            spec = StoredSpec(tuple(adapted.shape), adapted.dtype)
        else:
            spec = source.spec(published[key])
        _check_spec(path, key, spec, tensor)
    return weights


def load_weights(
    module: nn.Module,
    path: Path,
    *,
    rename: Rename | None = None,
    adapt: Mapping[str, Adapt] | None = None,
) -> None:
    """Load every parameter and persistent buffer of the module; nothing changes if it fails.

    The arguments and errors are those of `open_weights`; see `assign_weights` for what becomes of the module.
    """
    assign_weights(module, open_weights(module, path, rename=rename, adapt=adapt))


def assign_weights(module: nn.Module, weights: Weights) -> None:
    """Put opened weights into the module that they were opened for.

    Tensors take the dtype of the module's. Those that have it already stay mapped from the file and are not
    copied. A module on the meta device leaves it.

    Raises:
        CheckpointError: a tensor cannot be read, or is not finite; the module is then as it was.
    """
    state = {key: weights.read(key).to(tensor.dtype) for key, tensor in module.state_dict().items()}
    module.load_state_dict(state, assign=True)


def _check_keys(path: Path, expected: Mapping[str, Tensor], published: Mapping[str, str]) -> None:
    missing = [key for key in expected if key not in published]
    if missing:
        raise MissingKeys(
            f"{path} lacks {some_keys(missing)}; check that the checkpoint belongs to this model and is complete"
        )
    extra = [key for key in published if key not in expected]
    if extra:
        raise UnexpectedKeys(
            f"{path} has {some_keys(extra)}, which the model does not; check that the checkpoint belongs to it"
        )


def _check_spec(path: Path, key: str, spec: StoredSpec, expected: Tensor) -> None:
    if spec.shape != tuple(expected.shape):
        raise WrongTensor(
            f"{path}: {key} has shape {list(spec.shape)}, the model needs {list(expected.shape)}; "
            "check that the checkpoint belongs to this size of the model"
        )
    if spec.dtype.is_floating_point != expected.is_floating_point():
        raise WrongTensor(f"{path}: {key} is {spec.dtype}, the model needs {expected.dtype}")
