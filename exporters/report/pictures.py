"""Pictures of an image and of the regions of it that were merged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tm_export.exporters.merging.raise_merges import Raised
from tm_export.exporters.report.page import Picture
from tm_export.exporters.report.regions import draw_regions, encode_png
from tm_export.exporters.report.token_labels import token_labels


def region_pictures(raised: Raised, inputs: Sequence[Tensor]) -> tuple[Picture, ...]:
    """Return each image of `inputs` and the regions of it that stand in one token where tokens are fewest.

    There are none unless one input is a batch of images [B, 1 or 3, H, W], the program merges what is a grid of its
    patches, with a class token or without, and where each patch goes can be followed.
    """
    images = [tensor for tensor in inputs if tensor.dim() == 4 and tensor.shape[1] in (1, 3)]
    if len(images) != 1 or not any(site.kind == "merge" for site in raised.sites):
        return ()
    labels_BN = token_labels(raised, inputs)
    (pixels_BCHW,) = images
    if labels_BN is None or len(labels_BN) != len(pixels_BCHW) or not _grids(pixels_BCHW[0], labels_BN.shape[1]):
        return ()
    pictures: list[Picture] = []
    for i, (pixels_CHW, labels_N) in enumerate(zip(pixels_BCHW, labels_BN, strict=True), start=1):
        pictures.append(picture_of_input(pixels_CHW, labels_N, title=f"Image {i}: input"))
        pictures.append(picture_of_regions(pixels_CHW, labels_N, title=f"Image {i}: merged tokens"))
    return tuple(pictures)


def picture_of_input(pixels_CHW: Tensor, labels_N: Tensor, *, title: str) -> Picture:
    """Return the part of an image [1 or 3, H, W] that its patches cover."""
    labels_hw, patch = patch_labels(pixels_CHW, labels_N)
    h, w = labels_hw.shape
    seen_HWC = to_image(pixels_CHW)[: h * patch, : w * patch]
    return Picture(title, f"{h} by {w} patches of {patch} pixels.", encode_png(seen_HWC))


def picture_of_regions(pixels_CHW: Tensor, labels_N: Tensor, *, title: str) -> Picture:
    """Return an image [1 or 3, H, W] with its merged tokens as regions: patches of one label stand in one token."""
    labels_hw, patch = patch_labels(pixels_CHW, labels_N)
    caption = (
        f"{labels_hw.size} patches in {len(np.unique(labels_hw))} tokens. Each token is painted in the mean "
        "colour of its patches, which need not hang together."
    )
    return Picture(title, caption, draw_regions(to_image(pixels_CHW), labels_hw, patch))


def to_image(pixels_CHW: Tensor) -> NDArray[np.uint8]:
    """Return pixels [1 or 3, H, W] as bytes [H, W, 3]: the smallest value black, the largest white."""
    pixels_HWC = pixels_CHW.detach().float().cpu().expand(3, -1, -1).permute(1, 2, 0).numpy()
    low, high = pixels_HWC.min(), pixels_HWC.max()
    scaled_HWC = (pixels_HWC - low) * (255 / (high - low) if high > low else 0)
    image_HWC: NDArray[np.uint8] = np.rint(scaled_HWC).astype(np.uint8)
    return image_HWC


def patch_labels(pixels_CHW: Tensor, labels_N: Tensor) -> tuple[NDArray[np.int64], int]:
    """Return the label of each patch [h, w] and a patch's side in pixels; a class token comes first and is left out.

    Raises:
        ValueError: if neither N nor N − 1 square patches cover the image.
    """
    grids = _grids(pixels_CHW, len(labels_N))
    if not grids:
        H, W = pixels_CHW.shape[1:]
        raise ValueError(f"{len(labels_N)} tokens are neither a grid of {H} by {W} pixels nor one and a class token")
    h, w, patch = grids[0]
    return labels_N[len(labels_N) - h * w :].numpy().reshape(h, w), patch


def _grids(pixels_CHW: Tensor, tokens: int) -> list[tuple[int, int, int]]:
    """Rows, columns and pixels of every square patch of which an image has so many, or one less: largest first."""
    H, W = pixels_CHW.shape[1:]
    grids = [(H // patch, W // patch, patch) for patch in range(min(H, W), 0, -1)]
    return [grid for less in (0, 1) for grid in grids if grid[0] * grid[1] == tokens - less > 0]
