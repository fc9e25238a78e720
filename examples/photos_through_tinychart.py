"""Two photographs through TinyChart's vision tower: which patches become one token.

    python examples/photos_through_tinychart.py --out out/photos
    python examples/photos_through_tinychart.py --layers 4 --export onnx

Takes the two photographs that come with scikit-learn, sends them through the tower of TinyChart-3B at 768 px,
which merges 84 tokens in each of its layers, and draws a page, `index.html`, of the regions that merged.
Without `--checkpoint` the weights are random, from a seed: what merges then is what looks alike, in colour
and pattern, not what belongs together. All 26 layers take a minute on two idle cores; `--layers 8` is less.
With `--export` the tower is exported too, with the photographs as its example inputs: their regions then stand
on the report's own page.
"""

import argparse
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

import tm_export
from tm_export.exporters.report.page import Picture, render_pictures
from tm_export.exporters.report.pictures import picture_of_input, picture_of_regions
from tm_export.models.merging.source import initial_source, merge_source, region_labels
from tm_export.models.spec.seeding import seeded
from tm_export.models.tinychart.components import build_vision_tower
from tm_export.models.tinychart.network.vision_tower import VisionTower
from tm_export.models.tinychart.presets import FULL
from tm_export.models.tinychart.weights import load_vision_tower

GREY = 127


def preprocess(photo: Image.Image, size: int) -> Tensor:
    """Pad to a square with grey, resize and scale to −1..1, as TinyChart does: [1, 3, size, size]."""
    side = max(photo.size)
    square = Image.new("RGB", (side, side), (GREY, GREY, GREY))
    square.paste(photo, ((side - photo.width) // 2, (side - photo.height) // 2))
    resized = square.resize((size, size), Image.Resampling.BICUBIC)
    pixels_HWC = torch.from_numpy(np.array(resized)).float()
    return (pixels_HWC / 127.5 - 1).permute(2, 0, 1).unsqueeze(0)


@torch.no_grad()
def sources_by_layer(tower: VisionTower, pixels_BCHW: Tensor) -> list[Tensor]:
    """Which patches stand in which token after each layer: [1, n, N] with an n for each layer."""
    _, matches = tower.vision_model(pixels_BCHW)
    start = initial_source(1, tower.config.tokens_in)
    return list(accumulate(matches, merge_source, initial=start))[1:]


def pictures_of(name: str, tower: VisionTower, pixels_BCHW: Tensor) -> list[Picture]:
    """The photograph, and its regions half-way through the tower and after its last layer."""
    labels = [region_labels(source_BnN)[0] for source_BnN in sources_by_layer(tower, pixels_BCHW)]
    pictures = [picture_of_input(pixels_BCHW[0], labels[-1], title=f"{name}: input")]
    for layer in sorted({(len(labels) + 1) // 2, len(labels)}):
        title = f"{name}: after layer {layer}"
        pictures.append(picture_of_regions(pixels_BCHW[0], labels[layer - 1], title=title))
    return pictures


def main() -> None:
    """Run the tower on both photographs and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("out/photos"), help="folder for index.html")
    parser.add_argument("--layers", type=int, default=FULL.num_layers, choices=range(1, 27), metavar="1..26")
    parser.add_argument("--export", choices=("coreml", "onnx", "executorch"), help="export the tower for a target")
    parser.add_argument("--checkpoint", type=Path, help="TinyChart's or SigLIP's weights, as safetensors")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    config = replace(FULL, num_layers=args.layers)
    tower = seeded(lambda: build_vision_tower(config), args.seed)
    if args.checkpoint:
        load_vision_tower(tower, args.checkpoint)
        weights = f"weights from {args.checkpoint.name}"
    else:
        # A trained table of positions is smooth and small; a random one would outweigh the patches.
        torch.nn.init.zeros_(tower.vision_model.embeddings.position_embedding.weight)
        weights = f"random weights of seed {args.seed} and no positions"

    photos = load_sample_images()
    pixels = [preprocess(Image.fromarray(photo_HWC), config.image_size) for photo_HWC in photos.images]
    pictures: list[Picture] = []
    for filename, pixels_BCHW in zip(photos.filenames, pixels, strict=True):
        name = Path(filename).stem
        print(f"{name}: {config.tokens_in} patches through {config.num_layers} layers")
        pictures += pictures_of(name, tower, pixels_BCHW)

    page = render_pictures(
        "Photographs through TinyChart's vision tower",
        f"{config.num_layers} of the {FULL.num_layers} layers, with {weights}. "
        f"Each layer merges {config.tome_r} tokens.",
        pictures,
    )
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "index.html").write_text(page, encoding="utf-8")
    print(f"wrote {args.out / 'index.html'}")
    if args.export:
        bundle = tm_export.export(tower, torch.cat(pixels), target=args.export, out=args.out, name="tinychart-photos")
        print(f"wrote {bundle.path / 'reports' / 'index.html'}")


if __name__ == "__main__":
    main()
