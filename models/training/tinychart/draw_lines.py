"""Points joined by a line, with their values beside them and their names below."""

from typing import Final

from tm_export.models.training.tinychart.canvas import Canvas
from tm_export.models.training.tinychart.chart import Chart, Drawing
from tm_export.models.training.tinychart.draw_bars import BOTTOM, LONGEST, column, draw_frame, write_below

LOWEST: Final = 60  # pixels from the base line to a point of value 0, where its own value has room
RADIUS: Final = 10
HALO: Final = 4  # pixels around a value that the line leaves free


def draw_lines(chart: Chart) -> Drawing:
    """Return the drawing of a line chart.

    A value stands over its point, or under it where the line has a valley.
    """
    canvas = Canvas(chart.style)
    draw_frame(canvas, chart, LONGEST)
    base = BOTTOM + chart.style.shift[1] - LOWEST
    values = chart.values[0]
    each = (LONGEST - LOWEST) / chart.largest
    points = [(column(chart, place), base - value * each) for place, value in enumerate(values)]
    colour = chart.style.colours[0]
    canvas.pen.line(points, fill=colour, width=7, joint="curve")

    height = chart.style.value_height
    for place, value in enumerate(values):
        x, y = points[place]
        beside = values[max(place - 1, 0) : place] + values[place + 1 : place + 2]
        side = 1 if all(value < other for other in beside) else -1
        middle = y + side * (RADIUS + 5 + height / 2)
        reach = height * 0.38 * len(str(value)) + HALO
        box = (x - reach, middle - height / 2 - HALO, x + reach, middle + height / 2 + HALO)
        canvas.pen.rounded_rectangle(box, 6, fill=chart.style.background)
        canvas.write_value(value, x, middle)
    for (x, y), name in zip(points, chart.names, strict=True):
        canvas.pen.ellipse((x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS), fill=colour)
        write_below(canvas, name, x)
    return canvas.finish()
