"""The square picture that a chart is drawn on."""

from dataclasses import dataclass, field
from typing import Final

from PIL import Image, ImageDraw

from tm_export.models.training.tinychart.chart import Colour, Drawing, Label, Style
from tm_export.models.training.tinychart.text_masks import text_mask

SIZE: Final = 384
INK: Final = (25, 25, 25)


@dataclass
class Canvas:
    """A picture in the making, with the labels written so far."""

    style: Style
    image: Image.Image = field(init=False)
    pen: ImageDraw.ImageDraw = field(init=False)
    labels: list[Label] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.image = Image.new("RGB", (SIZE, SIZE), self.style.background)
        self.pen = ImageDraw.Draw(self.image)

    def write_value(self, value: int, x: float, y: float) -> None:
        """Write a value centred at x, y."""
        self.write(str(value), x, y, text_mask(str(value), self.style.face, self.style.value_height))

    def write_name(self, name: str, x: float, y: float) -> None:
        """Write a name centred at x, y."""
        self.write(name, x, y, self.name_mask(name))

    def name_width(self, name: str) -> int:
        """Return how wide the name will be written, in pixels."""
        return self.name_mask(name).width

    def name_mask(self, name: str) -> Image.Image:
        """Return the mask of a name, always smooth: small letters are hard to tell apart in the other face."""
        return text_mask(name, "smooth", self.style.name_height)

    def write(self, text: str, x: float, y: float, mask: Image.Image) -> None:
        """Write the text through its mask, centred at x, y."""
        corner = round(x - mask.width / 2), round(y - mask.height / 2)
        self.image.paste(INK, (*corner, corner[0] + mask.width, corner[1] + mask.height), mask)
        self.labels.append(Label(text, corner[0] + mask.width / 2, corner[1] + mask.height / 2))

    def rule(self, left: float, top: float, right: float, bottom: float) -> None:
        """Draw the base line, and the grid and the axis if the style has them."""
        if self.style.grid:
            faint = shade(self.style.background, (0, 0, 0), 0.12)
            for step in range(4):
                y = top + (bottom - top) * step / 4
                self.pen.line((left, y, right, y), fill=faint, width=3)
        if self.style.axis:
            self.pen.line((left, top, left, bottom), fill=INK, width=4)
        self.pen.line((left, bottom, right, bottom), fill=INK, width=4)

    def finish(self) -> Drawing:
        """Return the drawing."""
        return Drawing(self.image, tuple(self.labels))


def shade(colour: Colour, other: Colour, share: float) -> Colour:
    """Return the colour with a share of the other mixed in."""
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(colour, other, strict=True))
    return red, green, blue
