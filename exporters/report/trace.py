"""Pictures of the regions that a vision model merged, from the model's own account of them."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from tm_export.exporters.report.page import Picture
from tm_export.exporters.report.regions import draw_regions, encode_png
from tm_export.models.merging.source import region_labels


@runtime_checkable
class TracesSource(Protocol):
    """A model of square images that can say which patches stand in which of its tokens.

    Any `nn.Module` with this method has its regions drawn, a user's own as well as ours.
    """

    def trace_source(self, pixels_BCHW: Tensor) -> Tensor:
        """Return [B, n, N]: 1 where original token N stands in token n, else 0; N may count a class token."""


def region_pictures(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Picture, ...]:
    """Return each image of `inputs` and its regions after the last merge, or nothing where there are none.

    There are none unless the model is a `TracesSource`, and its one input is a batch of square RGB images.

    Args:
        model: in evaluation mode.
        inputs: what `model.forward` takes; pixels [B, 3, H, H].
    """
    if not isinstance(model, TracesSource) or len(inputs) != 1:
        return ()
    (pixels_BCHW,) = inputs
    if pixels_BCHW.ndim != 4 or pixels_BCHW.shape[1] != 3 or pixels_BCHW.shape[2] != pixels_BCHW.shape[3]:
        return ()
    source_BnN = model.trace_source(pixels_BCHW)
    pictures: list[Picture] = []
    for i, (pixels_CHW, source_nN) in enumerate(zip(pixels_BCHW, source_BnN, strict=True), start=1):
        pictures.append(picture_of_input(pixels_CHW, source_nN, title=f"Image {i}: input"))
        pictures.append(picture_of_regions(pixels_CHW, source_nN, title=f"Image {i}: merged tokens"))
    return tuple(pictures)


def picture_of_input(pixels_CHW: Tensor, source_nN: Tensor, *, title: str) -> Picture:
    """Return the part of an image [3, H, H] that its patches cover."""
    image_HWC = to_image(pixels_CHW)
    side = patch_labels(source_nN).shape[0]
    patch = image_HWC.shape[0] // side
    seen = patch * side
    return Picture(title, f"{side} by {side} patches of {patch} pixels.", encode_png(image_HWC[:seen, :seen]))


def picture_of_regions(pixels_CHW: Tensor, source_nN: Tensor, *, title: str) -> Picture:
    """Return an image [3, H, H] with its merged tokens as regions, the patches [n, N] that stand in each."""
    image_HWC = to_image(pixels_CHW)
    labels_hw = patch_labels(source_nN)
    caption = (
        f"{labels_hw.size} patches in {len(np.unique(labels_hw))} tokens. Each token is painted in the mean "
        "colour of its patches, which need not hang together."
    )
    return Picture(title, caption, draw_regions(image_HWC, labels_hw, image_HWC.shape[0] // labels_hw.shape[0]))


def to_image(pixels_CHW: Tensor) -> NDArray[np.uint8]:
    """Return pixels [3, H, W] as bytes [H, W, 3]: the smallest value black, the largest white."""
    pixels_HWC = pixels_CHW.detach().float().cpu().permute(1, 2, 0).numpy()
    low, high = pixels_HWC.min(), pixels_HWC.max()
    scaled_HWC = (pixels_HWC - low) * (255 / (high - low) if high > low else 0)
    image_HWC: NDArray[np.uint8] = np.rint(scaled_HWC).astype(np.uint8)
    return image_HWC


def patch_labels(source_nN: Tensor) -> NDArray[np.int64]:
    """Return the token that holds each patch [side, side] int64; a class token at position 0 is left out.

    Raises:
        ValueError: if neither N nor N − 1 patches make a square.
    """
    labels_N = region_labels(source_nN.unsqueeze(0))[0].numpy()
    for patches_N in (labels_N, labels_N[1:]):
        side = math.isqrt(len(patches_N))
        if side**2 == len(patches_N) > 0:
            return patches_N.reshape(side, side)
    raise ValueError(f"{len(labels_N)} tokens are neither a square of patches nor one and a class token")
