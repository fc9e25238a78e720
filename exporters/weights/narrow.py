"""Which weights are stored in 16 bits where they are computed with in 32: half the bytes on disk and in memory."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from tm_export.exporters.errors import UsageError
from tm_export.models.checkpoints.finite import is_finite

MIN_ELEMENTS: Final = 1 << 16
"""Smaller tensors, such as biases and the weights of norms, are not worth an operator."""


def is_narrowed(tensor: Tensor) -> bool:
    """Whether a weight is stored in 16 bits, where that is asked for."""
    return tensor.dtype is torch.float32 and tensor.numel() >= MIN_ELEMENTS


def rounded(key: str, tensor: Tensor) -> Tensor:
    """The weight as it is after it has been stored; raises `UsageError` if 16 bits cannot hold it."""
    if not is_narrowed(tensor):
        return tensor
    narrow = tensor.half()
    if not is_finite(narrow):
        raise UsageError(f"weight {key!r} has values beyond ±65504, which fp16 cannot hold: leave out --weights fp16")
    return narrow.float()
