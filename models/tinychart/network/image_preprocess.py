"""A picture of any shape to the square that the vision tower takes, in one graph of static shapes.

TinyChart pads to a square, the picture in its middle and 127 around it, and resizes by bicubic interpolation
(models of LLaVA's line do; mPLUG's repository, `process_images`). Resizing is a product with two matrices whose
entries follow from the picture's height and width, so these may be inputs. The numbers are Pillow's: its kernel (Keys,
"Cubic Convolution Interpolation", 1981, with a = −1/2), widened where it shrinks, and its rounding to whole levels
after each of its two passes.

Legend: S rows and columns of the canvas, O of the result, Y rows, X columns.
"""

import torch
from torch import Tensor, nn

FILL = 127.0
TIE = 2.0**-11
"""Levels. Where a picture shrinks to a half, hundreds of sums stand exactly between two levels, and engines that add in
another order would round them to either."""


class ImagePreprocess(nn.Module):
    """Pad to a square, resize, and scale to −1..1."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size

    def forward(self, canvas_1SS3: Tensor, height_1: Tensor, width_1: Tensor) -> Tensor:
        """Return the image [1, 3, O, O].

        Args:
            canvas_1SS3: uint8, RGB, with the picture in its upper left corner and anything elsewhere.
            height_1: int64, rows of the picture.
            width_1: int64, its columns.
        """
        levels_3YX = canvas_1SS3[0].permute(2, 0, 1).float()
        side_1 = torch.maximum(height_1, width_1)
        across_OX = bicubic_weights(canvas_1SS3.shape[2], self.image_size, width_1, side_1)
        down_OY = bicubic_weights(canvas_1SS3.shape[1], self.image_size, height_1, side_1)
        wide_3YO = levels_3YX @ across_OX.T + FILL * (1 - across_OX.sum(dim=1))
        image_3OO = down_OY @ whole_levels(wide_3YO) + FILL * (1 - down_OY.sum(dim=1))[:, None]
        return (whole_levels(image_3OO) / 127.5 - 1)[None]


def whole_levels(x: Tensor) -> Tensor:
    """Return the nearest level of 0..255; of two that are equally near, but for rounding, the higher one."""
    return (x + (0.5 + TIE)).floor().clamp(0, 255)


def bicubic_weights(canvas_size: int, image_size: int, length_1: Tensor, side_1: Tensor) -> Tensor:
    """Return how much each pixel of a canvas's row counts in each pixel of the image: [image_size, canvas_size].

    Rows sum to less than 1 where the square's margin counts too.

    Args:
        canvas_size: pixels in the row, of which the first `length_1` are the picture's.
        image_size: pixels of the result.
        length_1: int64 [1].
        side_1: int64 [1], of the square in whose middle the picture lies.
    """
    place_S = torch.arange(canvas_size, device=length_1.device)
    margin_1 = (side_1 - length_1) // 2
    scale_1 = side_1.float() / image_size
    width_1 = scale_1.clamp(min=1)
    centre_O1 = (torch.arange(image_size, device=length_1.device).float()[:, None] + 0.5) * scale_1

    def weights_at(place: Tensor, inside: Tensor) -> Tensor:
        return cubic((place.float() + 0.5 - centre_O1) / width_1) * inside.float()

    whole_O1 = weights_at(place_S, place_S < side_1).sum(dim=1, keepdim=True)
    return weights_at(place_S + margin_1, place_S < length_1) / whole_O1


def cubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = −1/2, which is 0 from a distance of 2 on."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((2.5 - 0.5 * x) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
