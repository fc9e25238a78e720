"""Which patches of a chart become one token, after each layer of `tinychart-tiny`'s tower.

    python examples/chart_regions.py docs/pictures/chart.png --out out/regions.png

Draws the chart, and beside it the regions after each layer: patches that stand in one token have their mean colour, and
those of several have an outline.
"""

import argparse
import io
from itertools import accumulate
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image

from tm_export.exporters.report.regions import draw_regions
from tm_export.models.merging.source import initial_source, merge_source, region_labels
from tm_export.models.spec.registry import find_model
from tm_export.models.tinychart.network.image_preprocess import ImagePreprocess
from tm_export.models.tinychart.network.vision_tower import VisionTower
from tm_export.models.tinychart.tiny.sizes import CANVAS, VISION_TOWER
from tm_export.runtime.apps.charts.picture import read_picture

SIDE = 384
"""Pixels of each drawing: a multiple of the patches in a row."""

GAP = 12


@torch.no_grad()
def regions_by_layer(picture: Path) -> list[np.ndarray]:
    """The group of each patch before the first layer and after each."""
    read = read_picture(picture, CANVAS)
    numbers = torch.tensor([read.height]), torch.tensor([read.width])
    pixels = ImagePreprocess(VISION_TOWER.image_size)(torch.from_numpy(read.canvas_1SS3), *numbers)
    component = next(each for each in find_model("tinychart-tiny").components if each.name == "vision_tower")
    tower = cast(VisionTower, component.variants["merged"]())
    _, matches = tower.vision_model(pixels)
    sources = accumulate(matches, merge_source, initial=initial_source(1, VISION_TOWER.tokens_in))
    return [region_labels(source)[0].view(VISION_TOWER.side, VISION_TOWER.side).numpy() for source in sources]


def main() -> None:
    """Draw the chart and its regions in a row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("picture", type=Path, help="a square chart")
    parser.add_argument("--out", type=Path, default=Path("out/regions.png"))
    arguments = parser.parse_args()
    with Image.open(arguments.picture) as opened:
        chart = opened.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    before, *layers = regions_by_layer(arguments.picture)
    drawings = [chart]
    for number, labels in enumerate(layers, start=1):
        content = draw_regions(np.asarray(chart), labels, SIDE // VISION_TOWER.side)
        drawings.append(Image.open(io.BytesIO(content)))
        print(f"after layer {number}: {len(np.unique(labels))} tokens of {before.size} patches")
    columns = (len(drawings) + 1) // 2
    sheet = Image.new("RGB", (columns * (SIDE + GAP) - GAP, 2 * (SIDE + GAP) - GAP), (255, 255, 255))
    for place, drawing in enumerate(drawings):
        sheet.paste(drawing, (place % columns * (SIDE + GAP), place // columns * (SIDE + GAP)))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(arguments.out, optimize=True)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
