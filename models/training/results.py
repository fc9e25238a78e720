"""From a training folder to the weights that a package brings."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from tm_export.models.spec.trained import LOG

MOST_BYTES: Final = 8_000_000
"""Of all weights together: they are in the repository."""


def mean_of(path: Path) -> Mapping[str, Tensor]:
    """Return the running mean of the weights in a stage's checkpoint."""
    mean: Mapping[str, Tensor] = torch.load(path, weights_only=True, map_location="cpu")["mean"]
    return mean


def below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose keys begin so, without that."""
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def write_networks(networks: Mapping[str, Mapping[str, Tensor]], work: Path, out: Path) -> int:
    """Write a file for each network, in 16 bits, and the log of a training folder; returns the weights' bytes.

    Raises:
        ValueError: they are larger than the repository takes.
    """
    narrow = {
        name: {key: tensor.half().contiguous() for key, tensor in tensors.items()} for name, tensors in networks.items()
    }
    total = sum(tensor.nbytes for tensors in narrow.values() for tensor in tensors.values())
    if total > MOST_BYTES:
        raise ValueError(f"the weights take {total:,} bytes, and {MOST_BYTES:,} are allowed: train smaller networks")
    out.mkdir(exist_ok=True)
    for name, tensors in narrow.items():
        save_file(tensors, out / f"{name}.safetensors")
    shutil.copyfile(work / "log.jsonl", out / LOG)
    return total
