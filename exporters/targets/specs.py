"""Tensors as a target's artifacts declare them: name, dtype, shape."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.targets.base import Target
from tm_export.runtime import manifest
from tm_export.runtime.engines.base import Array


def tensor_spec(name: str, tensor: Tensor, target: Target) -> manifest.TensorSpec:
    """Name, and the dtype and shape that the target's artifacts have it in."""
    shape = (1,) * (target.least_rank - tensor.dim()) + tuple(tensor.shape)
    return manifest.TensorSpec.model_validate({"name": name, "dtype": target.dtype(tensor.dtype), "shape": shape})


def as_declared(spec: manifest.TensorSpec, tensor: Tensor) -> Array:
    """The tensor as the manifest has it; raises `ConversionRefused` if it holds an integer that does not fit there."""
    plain = tensor.detach().contiguous()
    array: Array = (plain.float() if plain.dtype is torch.bfloat16 else plain).numpy()  # NumPy has no bfloat16
    made = array.astype(spec.dtype).reshape(spec.shape)
    if array.dtype.kind in "iu" and made.dtype.kind in "iu" and (made.reshape(array.shape) != array).any():
        beyond = array[made.reshape(array.shape) != array].flat[0]
        raise ConversionRefused(
            f"{spec.name!r} holds {beyond}, and this target's artifacts have integers of {8 * made.dtype.itemsize} "
            "bits: keep values within them, or export to another target"
        )
    return made


def tensor_specs(names: Sequence[str], tensors: Sequence[Tensor], target: Target) -> tuple[manifest.TensorSpec, ...]:
    """Names, dtypes and shapes."""
    return tuple(tensor_spec(name, tensor, target) for name, tensor in zip(names, tensors, strict=True))
