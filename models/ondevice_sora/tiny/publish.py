"""Write what `train.py` left in a folder as the weights that this package brings.

    python -m tm_export.models.ondevice_sora.tiny.publish --work DIR

One file for each network, with the keys of the published checkpoints' networks, in 16 bits; and the log of the
training.
"""

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tm_export.models.ondevice_sora.tiny.trained import LOG, WEIGHTS

MOST_BYTES: Final = 8_000_000
"""Of all weights together: they are in the repository."""


def trained_networks(work: Path) -> dict[str, dict[str, Tensor]]:
    """Return the running means of the trained weights by network and key, as fp16.

    Args:
        work: a folder in which `train.py` has come to its end.
    """
    spatial, temporal, flow = (mean_of(work / f"{name}.pt") for name in ("spatial_vae", "temporal_vae", "merging"))
    moments = load_file(work / "latent_scale.safetensors")
    networks = {
        "text_encoder": below(flow, "text_encoder."),
        "denoiser": below(flow, "denoiser.") | {"y_embedder.y_embedding": flow["null_text_LD"]},
        "vae_temporal": below(temporal, "decoder.") | moments,
        "vae_spatial": below(spatial, "decoder."),
    }
    return {
        name: {key: tensor.half().contiguous() for key, tensor in tensors.items()} for name, tensors in networks.items()
    }


def mean_of(path: Path) -> Mapping[str, Tensor]:
    """Return the running mean of the weights in a stage's checkpoint."""
    mean: Mapping[str, Tensor] = torch.load(path, weights_only=True, map_location="cpu")["mean"]
    return mean


def below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose keys begin so, without that."""
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def publish(work: Path, out: Path = WEIGHTS) -> int:
    """Write the files; returns their bytes.

    Raises:
        ValueError: they are larger than the repository takes.
    """
    networks = trained_networks(work)
    total = sum(tensor.nbytes for tensors in networks.values() for tensor in tensors.values())
    if total > MOST_BYTES:
        raise ValueError(f"the weights take {total:,} bytes, and {MOST_BYTES:,} are allowed: train smaller networks")
    out.mkdir(exist_ok=True)
    for name, tensors in networks.items():
        save_file(tensors, out / f"{name}.safetensors")
    shutil.copyfile(work / "log.jsonl", out / LOG)
    return total


def main() -> None:
    """Write the files and say how large they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of train.py")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    print(f"{options.out}: {publish(options.work, options.out):,} bytes of weights")


if __name__ == "__main__":
    main()
