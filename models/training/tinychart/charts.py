"""Charts of random values and looks, and their drawings."""

import random
from collections.abc import Callable
from typing import Final

from tm_export.models.training.tinychart.chart import Chart, Colour, Drawing, Label, Style
from tm_export.models.training.tinychart.draw_bars import draw_bars, draw_grouped
from tm_export.models.training.tinychart.draw_lines import draw_lines
from tm_export.models.training.tinychart.draw_pies import draw_pies
from tm_export.models.training.tinychart.text_masks import FACES

__all__ = ["Chart", "Colour", "Drawing", "Label", "Style", "chart_rng", "draw", "random_chart"]

DRAW: Final[dict[str, Callable[[Chart], Drawing]]] = {
    "bar": draw_bars,
    "grouped": draw_grouped,
    "line": draw_lines,
    "pie": draw_pies,
}
KINDS: Final = tuple(DRAW)
COUNTS: Final = {"bar": (3, 5), "grouped": (2, 3), "line": (3, 5), "pie": (3, 4)}
SCALES: Final = (9, 20, 50, 99)
TIES: Final = 0.15  # share of charts whose values are drawn without regard to ties
LEAST_WEDGE: Final = 0.15  # share of the pie, so that a value fits in
# No name is wider than 68 pixels at a height of 29, so that five stand side by side.
NAMES: Final = (
    "Ant", "Bat", "Cat", "Eel", "Elf", "Fig", "Fir", "Fox", "Ice", "Ivy",
    "Jar", "Jay", "Kit", "Nut", "Oat", "Oil", "Pie", "Pig", "Tea", "Tin",
)  # fmt: skip
SERIES: Final = (("A", "B"), ("X", "Y"), ("Old", "New"), ("In", "Out"))
COLOURS: Final = (
    (214, 39, 40),
    (245, 130, 20),
    (240, 195, 30),
    (60, 165, 50),
    (25, 175, 180),
    (40, 100, 220),
    (140, 70, 200),
    (230, 90, 170),
)
BACKGROUNDS: Final = ((255, 255, 255), (250, 247, 238), (240, 245, 252), (242, 242, 242))


def chart_rng(seed: int, index: int) -> random.Random:
    """Return the source of chance of one chart, whatever other charts are drawn."""
    return random.Random(f"{seed}/{index}")


def random_chart(rng: random.Random) -> Chart:
    """Return a chart of any kind; a quarter of the charts is of each."""
    kind = rng.choice(KINDS)
    count = rng.randint(*COUNTS[kind])
    series = rng.choice(SERIES) if kind == "grouped" else ()
    scale = rng.choice(SCALES)
    names = tuple(rng.sample(NAMES, count))
    return Chart(kind, names, series, random_values(rng, kind, count, scale), scale, random_style(rng, kind, count))


def random_values(rng: random.Random, kind: str, count: int, scale: int) -> tuple[tuple[int, ...], ...]:
    """Return values from 1 to the scale, mostly without ties."""
    rows = 2 if kind == "grouped" else 1
    ties = rng.random() < TIES
    while True:
        if ties:
            values = rng.choices(range(1, scale + 1), k=rows * count)
        else:
            values = rng.sample(range(1, scale + 1), rows * count)
        if kind != "pie" or min(values) >= LEAST_WEDGE * sum(values):
            return tuple(tuple(values[row * count : (row + 1) * count]) for row in range(rows))


def random_style(rng: random.Random, kind: str, count: int) -> Style:
    """Return a look that suits a chart of the kind, with so many categories."""
    colours = tuple(rng.sample(COLOURS, 5))
    if kind == "bar" and rng.random() < 0.5:
        colours = colours[:1] * 5
    crowd = 2 * count if kind == "grouped" else count
    reach = 6 if kind != "pie" else 4
    return Style(
        colours=colours,
        face=rng.choice(FACES),
        value_height=rng.choice(value_heights(kind, crowd)),
        name_height=27 if kind == "pie" else rng.choice((29, 32) if crowd < 5 else (29,)),
        background=rng.choice(BACKGROUNDS),
        grid=kind != "pie" and rng.random() < 0.5,
        axis=kind != "pie" and rng.random() < 0.5,
        width=rng.uniform(0.6, 0.85),
        shift=(rng.randint(-reach, reach), rng.randint(-reach, reach)),
    )


def value_heights(kind: str, crowd: int) -> tuple[int, ...]:
    """Return the heights of digits that fit, with so many values side by side."""
    if kind == "pie":
        return (33, 36)
    if crowd > 5:
        return (28, 31)
    return (35, 37) if crowd == 5 else (35, 40)


def draw(chart: Chart) -> Drawing:
    """Return the drawing of a chart."""
    return DRAW[chart.kind](chart)
