"""Questions about a chart, each with its program of thoughts and its answer."""

import random
from dataclasses import dataclass
from typing import Final

from tm_export.models.training.tinychart.chart import Chart
from tm_export.models.training.tinychart.phrasings import HELD_OUT, PHRASINGS
from tm_export.models.training.tinychart.programs import Item, Operands, Row, answer_text, write_program

TABLE_TEXT: Final = "Generate underlying data table for the chart."
PARTS: Final = {
    "bar": ("bar", "bars"),
    "grouped": ("bar", "bars"),
    "line": ("point", "points"),
    "pie": ("slice", "slices"),
}


@dataclass(frozen=True)
class Question:
    """A question about a chart.

    Attributes:
        text: what is asked.
        kind: what is to be computed, a key of `PHRASINGS`, or "table".
        program: lines of `<step>…</step>` that compute the answer, empty for a table.
        answer: what the program's last line comes to, as text, or the whole table.
        template: the kind and the number of its phrasing, such as "mean/2".
    """

    text: str
    kind: str
    program: str
    answer: str
    template: str

    @property
    def target(self) -> str:
        """What a model is to write."""
        return self.program or self.answer


def questions_of(chart: Chart, rng: random.Random) -> tuple[Question, ...]:
    """Return a question of every kind that the chart has one clear answer to, each in one of its phrasings.

    About a grouped chart, a question about many bars is about those of one series.
    """
    operands = draw_operands(chart, rng)
    return tuple(ask(kind, rng.randrange(len(PHRASINGS[kind])), operands) for kind in kinds_for(operands))


def is_held_out(question: Question) -> bool:
    """Return whether the question's phrasing is kept from training."""
    kind = question.kind
    return kind in HELD_OUT and question.template == f"{kind}/{HELD_OUT[kind]}"


def table_question(chart: Chart) -> Question:
    """Return the question whose answer is all that the chart says, a row for each category."""
    rows = [" ".join(chart.series)] if chart.series else []
    for name, *values in zip(chart.names, *chart.values, strict=True):
        rows.append(" ".join((name, *map(str, values))))
    return Question(TABLE_TEXT, "table", "", "\n".join(rows), "table/0")


def draw_operands(chart: Chart, rng: random.Random) -> Operands:
    """Return values of the chart to ask about, drawn at random."""
    number = rng.randrange(len(chart.values))
    part, parts = PARTS[chart.kind]
    if chart.series:
        part, parts = (f"{chart.series[number]} {noun}" for noun in (part, parts))
    row = Row(chart.names, chart.values[number], part, parts)
    first, second = rng.sample(items_of(chart), 2)
    return Operands(row, first, second, draw_limit(row, chart.scale, rng))


def items_of(chart: Chart) -> list[Item]:
    """Return every value of the chart with its name, which says the series where there are several."""
    if not chart.series:
        return [Item(name, value) for name, value in zip(chart.names, chart.values[0], strict=True)]
    return [
        Item(f"{series} in {name}", value)
        for series, row in zip(chart.series, chart.values, strict=True)
        for name, value in zip(chart.names, row, strict=True)
    ]


def draw_limit(row: Row, scale: int, rng: random.Random) -> int:
    """Return a number that some of the values are above and some are not, a round one where there is one."""
    step = 1 if scale < 20 else 5
    between = range(min(row.values), max(row.values))
    limits = [limit for limit in between if limit % step == 0] or list(between)
    return rng.choice(limits) if limits else scale


def kinds_for(operands: Operands) -> list[str]:
    """Return the kinds of question that have one clear answer for these values."""
    row = operands.row
    unclear = set()
    if row.values.count(max(row.values)) > 1:
        unclear.add("max_name")
    if row.values.count(min(row.values)) > 1:
        unclear.add("min_name")
    if len(row.values) < 3:
        unclear.add("sum_largest")
    if min(row.values) == max(row.values):
        unclear.add("count")
    if operands.first.value == operands.second.value:
        unclear.add("compare")
    return [kind for kind in PHRASINGS if kind not in unclear]


def ask(kind: str, phrasing: int, operands: Operands) -> Question:
    """Return the question of a kind, in the phrasing of that number."""
    if kind == "difference":
        operands = operands.larger_first()
    text = PHRASINGS[kind][phrasing].format(
        a=operands.first.name,
        b=operands.second.name,
        bar=operands.row.part,
        bars=operands.row.parts,
        limit=operands.limit,
    )
    program, answer = write_program(kind, operands)
    return Question(text, kind, program, answer_text(answer), f"{kind}/{phrasing}")
