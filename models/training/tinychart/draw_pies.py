"""A pie, with values in its wedges and names beside them."""

import math
from typing import Final

from tm_export.models.training.tinychart.canvas import SIZE, Canvas, shade
from tm_export.models.training.tinychart.chart import Chart, Drawing

RADIUS: Final = 114
VALUE_RADIUS: Final = 71
GAP: Final = 7  # pixels between the pie and a name
PALE: Final = 0.5  # share of white in a wedge's colour, so that its value is legible


def draw_pies(chart: Chart) -> Drawing:
    """Return the drawing of a pie chart, clockwise from the top."""
    canvas = Canvas(chart.style)
    middle_x, middle_y = (SIZE / 2 + shift for shift in chart.style.shift)
    box = (middle_x - RADIUS, middle_y - RADIUS, middle_x + RADIUS, middle_y + RADIUS)
    total = sum(chart.values[0])
    start = -90.0
    for name, value, colour in zip(chart.names, chart.values[0], chart.style.colours, strict=False):
        stop = start + 360 * value / total
        canvas.pen.pieslice(box, start, stop, fill=shade(colour, (255, 255, 255), PALE), outline=(255, 255, 255))
        angle = math.radians((start + stop) / 2)
        right, down = math.cos(angle), math.sin(angle)
        canvas.write_value(value, middle_x + VALUE_RADIUS * right, middle_y + VALUE_RADIUS * down)
        half_wide = canvas.name_width(name) / 2
        reach = RADIUS + GAP + abs(right) * half_wide + abs(down) * chart.style.name_height / 2
        canvas.write_name(name, middle_x + reach * right, middle_y + reach * down)
        start = stop
    return canvas.finish()
