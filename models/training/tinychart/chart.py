"""What a synthetic chart shows and how it looks, and its drawing."""

from dataclasses import dataclass

from PIL import Image

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Style:
    """How a chart looks, apart from its values.

    Attributes:
        colours: one for each bar, wedge or series, in order.
        face: "smooth" or "bitmap" digits.
        value_height: height of the digits, in pixels.
        name_height: height of the capitals of names, in pixels.
        background: the colour behind all.
        grid: whether horizontal lines cross the chart.
        axis: whether there is a line on its left.
        width: share of its place that a bar is wide.
        shift: how far the chart stands from the centre, right and down, in pixels.
    """

    colours: tuple[Colour, ...]
    face: str
    value_height: int
    name_height: int
    background: Colour
    grid: bool
    axis: bool
    width: float
    shift: tuple[int, int]


@dataclass(frozen=True)
class Chart:
    """A chart of whole numbers.

    Attributes:
        kind: "bar", "grouped", "line" or "pie".
        names: the categories, left to right, or clockwise from the top in a pie.
        series: the names of the series of a grouped chart, empty for other kinds.
        values: a row for each series, with a number for each category.
        scale: the largest value there could have been.
        style: how it looks.
    """

    kind: str
    names: tuple[str, ...]
    series: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]
    scale: int
    style: Style

    @property
    def largest(self) -> int:
        """The largest value of all."""
        return max(max(row) for row in self.values)


@dataclass(frozen=True)
class Label:
    """A piece of text in a drawing and where its centre is, in pixels from the upper left corner."""

    text: str
    x: float
    y: float


@dataclass(frozen=True)
class Drawing:
    """The picture of a chart, RGB of `canvas.SIZE` pixels each way, and all text in it."""

    image: Image.Image
    labels: tuple[Label, ...]
