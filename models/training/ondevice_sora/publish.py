"""Write what `train.py` left in a folder as the weights that this package brings.

    python -m tm_export.models.training.ondevice_sora.publish --work DIR

One file for each network, with the keys of the published checkpoints' networks, in 16 bits; and the log of the
training.
"""

import argparse
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from tm_export.models.ondevice_sora.tiny import WEIGHTS
from tm_export.models.training.results import below, mean_of, write_networks


def trained_networks(work: Path) -> dict[str, dict[str, Tensor]]:
    """Return the running means of the trained weights by network and key.

    Args:
        work: a folder in which `train.py` has come to its end.
    """
    spatial, temporal, flow = (mean_of(work / f"{name}.pt") for name in ("spatial_vae", "temporal_vae", "merging"))
    moments = load_file(work / "latent_scale.safetensors")
    return {
        "text_encoder": below(flow, "text_encoder."),
        "denoiser": below(flow, "denoiser.") | {"y_embedder.y_embedding": flow["null_text_LD"]},
        "vae_temporal": below(temporal, "decoder.") | moments,
        "vae_spatial": below(spatial, "decoder."),
    }


def main() -> None:
    """Write the files and say how large they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of train.py")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    total = write_networks(trained_networks(options.work), options.work, options.out)
    print(f"{options.out}: {total:,} bytes of weights")


if __name__ == "__main__":
    main()
