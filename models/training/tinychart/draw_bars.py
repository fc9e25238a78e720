"""Bars with their values on top and their names below; of one series, or of two side by side."""

from typing import Final

from tm_export.models.training.tinychart.canvas import SIZE, Canvas
from tm_export.models.training.tinychart.chart import Chart, Colour, Drawing

PLOT_WIDTH: Final = 372
BOTTOM: Final = 322  # the row that bars stand on
LONGEST: Final = 258
LONGEST_UNDER_LEGEND: Final = 212
LEAST: Final = 4  # pixels of a bar, however small its value
SERIES_GAP: Final = 0.47  # from bar to bar in a group, as a share of the width of the group


def draw_bars(chart: Chart) -> Drawing:
    """Return the drawing of a bar chart."""
    canvas = Canvas(chart.style)
    pitch = PLOT_WIDTH / len(chart.names)
    draw_frame(canvas, chart, LONGEST)
    for place, (name, value) in enumerate(zip(chart.names, chart.values[0], strict=True)):
        colour = chart.style.colours[place]
        draw_bar(canvas, colour, column(chart, place), pitch, value, LONGEST / chart.largest)
        write_below(canvas, name, column(chart, place))
    return canvas.finish()


def draw_grouped(chart: Chart) -> Drawing:
    """Return the drawing of a grouped chart, with its legend on top."""
    canvas = Canvas(chart.style)
    apart = SERIES_GAP * PLOT_WIDTH / len(chart.names)
    draw_frame(canvas, chart, LONGEST_UNDER_LEGEND)
    draw_legend(canvas, chart)
    for place, name in enumerate(chart.names):
        middle = column(chart, place)
        for number, row in enumerate(chart.values):
            x = middle + (number - 0.5) * apart
            draw_bar(canvas, chart.style.colours[number], x, apart, row[place], LONGEST_UNDER_LEGEND / chart.largest)
        write_below(canvas, name, middle)
    return canvas.finish()


def column(chart: Chart, place: int) -> float:
    """Return the middle, across, of a category's place."""
    return SIZE / 2 + chart.style.shift[0] + ((place + 0.5) / len(chart.names) - 0.5) * PLOT_WIDTH


def draw_frame(canvas: Canvas, chart: Chart, longest: int) -> None:
    """Draw the lines behind the bars."""
    right, down = chart.style.shift
    left, bottom = SIZE / 2 + right - PLOT_WIDTH / 2, BOTTOM + down
    canvas.rule(max(left, 2), bottom - longest, min(left + PLOT_WIDTH, SIZE - 2), bottom)


def draw_bar(canvas: Canvas, colour: Colour, x: float, pitch: float, value: int, pixels_each: float) -> None:
    """Draw a bar and its value."""
    bottom = BOTTOM + canvas.style.shift[1]
    top = round(bottom - max(LEAST, value * pixels_each))
    half = round(canvas.style.width * pitch / 2)
    canvas.pen.rectangle((round(x) - half, top, round(x) + half, bottom), fill=colour)
    canvas.write_value(value, x, top - 8 - canvas.style.value_height / 2)


def write_below(canvas: Canvas, name: str, x: float) -> None:
    """Write the name of a category under the bars."""
    canvas.write_name(name, x, BOTTOM + canvas.style.shift[1] + 29)


def draw_legend(canvas: Canvas, chart: Chart) -> None:
    """Draw a square of each series' colour and its name after it."""
    y, half = 28, 14
    for number, name in enumerate(chart.series):
        left = SIZE / 2 + (number - 0.5) * 170 - 55
        canvas.pen.rectangle((left, y - half, left + 2 * half, y + half), fill=chart.style.colours[number])
        canvas.write_name(name, left + 2 * half + 12 + canvas.name_width(name) / 2, y)
