"""Write what `train.py` left in a folder as the weights that this package brings.

    python -m tm_export.models.training.tinychart.publish --work DIR

One file for each network, with the keys of the published checkpoints' networks, in 16 bits; and the log of the
training.
"""

import argparse
from pathlib import Path

from torch import Tensor

from tm_export.models.tinychart.tiny import WEIGHTS
from tm_export.models.training.results import below, mean_of, write_networks


def trained_networks(work: Path) -> dict[str, dict[str, Tensor]]:
    """Return the running means of the trained weights by network and key.

    Args:
        work: a folder in which `train.py` has come to its end.
    """
    mean = mean_of(work / "answering.pt")
    networks = {"vision_tower": "tower", "connector": "connector", "llm": "llm"}
    return {name: below(mean, f"{key}.") for name, key in networks.items()}


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
