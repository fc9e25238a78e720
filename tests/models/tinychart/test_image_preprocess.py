"""The graph that pads and resizes, against Pillow."""

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tm_export.models.tinychart.network.image_preprocess import ImagePreprocess, whole_levels

CANVAS = 80


def by_pillow(picture: np.ndarray, size: int) -> np.ndarray:
    """Levels of the padded and resized picture."""
    height, width = picture.shape[:2]
    side = max(height, width)
    square = Image.new("RGB", (side, side), (127, 127, 127))
    square.paste(Image.fromarray(picture), ((side - width) // 2, (side - height) // 2))
    return np.asarray(square.resize((size, size), Image.Resampling.BICUBIC)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, CANVAS), width=st.integers(1, CANVAS), size=st.sampled_from((24, 96)), seed=st.integers(0, 99)
)
@example(height=1, width=1, size=24, seed=0)
@example(height=CANVAS, width=CANVAS, size=24, seed=0)
@example(height=3, width=CANVAS, size=96, seed=0)
def test_levels_equal_pillows(height, width, size, seed):
    random = np.random.default_rng(seed)
    canvas = random.integers(0, 256, (CANVAS, CANVAS, 3), dtype=np.uint8)  # what is not the picture must not be seen
    image = ImagePreprocess(size)(torch.from_numpy(canvas)[None], torch.tensor([height]), torch.tensor([width]))[
        0
    ].permute(1, 2, 0)
    levels = 127.5 * (image.numpy() + 1)
    difference = np.abs(levels - by_pillow(canvas[:height, :width], size))
    # Pillow's weights are rounded to 22 bits, so what lies between two levels may fall to the other one,
    # in either pass.
    assert difference.max() <= 2.01
    assert (difference > 0.01).mean() < 0.05


def test_of_two_equally_near_levels_the_higher_is_taken_whatever_the_order_of_adding():
    """At a half of the size, sums stand between two levels; a mirrored picture adds them the other way round."""
    canvas = np.random.default_rng(0).integers(0, 256, (CANVAS, CANVAS, 3), dtype=np.uint8)
    size = torch.tensor([CANVAS])
    image, mirrored = (
        ImagePreprocess(CANVAS // 2)(torch.from_numpy(each.copy())[None], size, size)
        for each in (canvas, canvas[::-1, ::-1])
    )
    assert torch.equal(image, mirrored.flip(2, 3))
    assert torch.equal(whole_levels(torch.tensor([10.5 - 1e-5, 10.5, 10.5 + 1e-5])), torch.full((3,), 11.0))
