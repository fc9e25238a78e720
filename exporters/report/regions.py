"""Draw merged tokens as regions of the image that they came from.

Source: the figures of Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023 (arXiv 2210.09461).

Legend: H, W pixels, h, w patches, N original tokens, n tokens after merging.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

OUTLINE = (255, 255, 255)


def draw_regions(image_HWC: NDArray[np.uint8], labels_hw: NDArray[np.integer], patch: int) -> bytes:
    """Paint each group of patches with the mean colour of its pixels, and outline those of several patches.

    An outline is one pixel wide and white: the first row or column of a patch whose neighbour above or to the
    left is of another group, where at least one of the two groups has several patches. Pixels beyond the last
    patch, which the model does not see, are cut off.

    Args:
        image_HWC: [H, W, 3], of h·patch rows and w·patch columns at least.
        labels_hw: the group of each patch; any integers. A group need not hang together.
        patch: rows and columns of pixels in a patch.

    Returns:
        The content of a PNG file of h·patch rows and w·patch columns.

    Raises:
        ValueError: if the image is no RGB image of bytes or has too few pixels for the patches.
    """
    rows, columns = patch * labels_hw.shape[0], patch * labels_hw.shape[1]
    if image_HWC.dtype != np.uint8 or image_HWC.ndim != 3 or image_HWC.shape[2] != 3:
        raise ValueError(f"the image must be uint8 [H, W, 3], not {image_HWC.dtype} {list(image_HWC.shape)}")
    if image_HWC.shape[0] < rows or image_HWC.shape[1] < columns:
        raise ValueError(
            f"{labels_hw.shape[0]} by {labels_hw.shape[1]} patches of {patch} pixels need an image of "
            f"{rows} by {columns}, not {image_HWC.shape[0]} by {image_HWC.shape[1]}"
        )

    _, group_N, patches_G = np.unique(labels_hw, return_inverse=True, return_counts=True)
    group_HW = np.kron(group_N.reshape(labels_hw.shape), np.ones((patch, patch), dtype=np.int64))
    colour_GC = _mean_colours(image_HWC[:rows, :columns], group_HW, len(patches_G))
    painted_HWC = colour_GC[group_HW]
    painted_HWC[_outlines(group_HW, patches_G > 1)] = OUTLINE
    return encode_png(painted_HWC)


def encode_png(image_HWC: NDArray[np.uint8]) -> bytes:
    """Return the content of a PNG file, the same bytes for the same image [H, W, 3]."""
    file = io.BytesIO()
    Image.fromarray(image_HWC).save(file, format="PNG", optimize=True)
    return file.getvalue()


def _mean_colours(image_HWC: NDArray[np.uint8], group_HW: NDArray[np.int64], groups: int) -> NDArray[np.uint8]:
    """The mean colour of the pixels of each group 0..groups−1, rounded: [groups, 3]."""
    pixels_G = np.bincount(group_HW.ravel(), minlength=groups)
    sums_CG = [np.bincount(group_HW.ravel(), image_HWC[..., c].ravel(), minlength=groups) for c in range(3)]
    return np.rint(np.stack(sums_CG, axis=1) / pixels_G[:, None]).astype(np.uint8)


def _outlines(group_HW: NDArray[np.int64], outlined_G: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels that begin another group than the one above or to the left, if one of both is outlined."""
    outlined_HW = outlined_G[group_HW]
    line_HW = np.zeros(group_HW.shape, dtype=bool)
    line_HW[1:] |= (group_HW[1:] != group_HW[:-1]) & (outlined_HW[1:] | outlined_HW[:-1])
    line_HW[:, 1:] |= (group_HW[:, 1:] != group_HW[:, :-1]) & (outlined_HW[:, 1:] | outlined_HW[:, :-1])
    return line_HW
