"""Questions that training never saw: about charts of another seed, in phrasings that are held out."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from tm_export.models.training.tinychart.chart import Chart
from tm_export.models.training.tinychart.charts import chart_rng, random_chart
from tm_export.models.training.tinychart.phrasings import PHRASINGS
from tm_export.models.training.tinychart.questions import Question, is_held_out, questions_of

HELD_OUT_SEED: Final = 1


@dataclass(frozen=True)
class HeldOut:
    """A question, and the chart that it is about."""

    chart: Chart
    question: Question


def held_out_questions(count: int) -> tuple[HeldOut, ...]:
    """Return the first so many: one about each chart, the kinds in turn."""
    return tuple(islice(_all(), count))


def _all() -> Iterator[HeldOut]:
    kinds, index = tuple(PHRASINGS), 0
    while True:
        for kind in kinds:
            found = None
            while found is None:
                rng = chart_rng(HELD_OUT_SEED, index)
                index += 1
                chart = random_chart(rng)
                questions = questions_of(chart, rng)
                found = next((each for each in questions if each.kind == kind and is_held_out(each)), None)
            yield HeldOut(chart, found)
