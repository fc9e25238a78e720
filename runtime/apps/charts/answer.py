"""From a picture and a question, or from many, to answers, within a memory budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tm_export.runtime.apps.charts.batch import Outcome, Row, answer_rows
from tm_export.runtime.apps.charts.chart_reader import Answer, ChartReader, Mode
from tm_export.runtime.apps.charts.picture import Picture
from tm_export.runtime.apps.charts.write_text import Choice, cache_bytes
from tm_export.runtime.loading.machinery import Machinery
from tm_export.runtime.loading.memory import MemorySampler
from tm_export.runtime.loading.process_budget import loader_within_budget


@dataclass(frozen=True)
class Wishes:
    """How questions are answered."""

    mode: Mode
    choice: Choice
    max_new_tokens: int | None


@dataclass(frozen=True)
class Answered:
    """An answer, the seconds that the picture took, and the largest resident set of the process meanwhile."""

    answer: Answer
    picture_seconds: float
    peak_rss_bytes: int


def answer_chart(
    machinery: Machinery, picture: Picture, question: str, wishes: Wishes, say: Callable[[str], None]
) -> Answered:
    """Answers one question, and says the model's text as it is written.

    Raises:
        QuestionError: the question cannot be put.
        BundleError, BudgetTooSmall, EngineError: as `ChartReader`.
    """
    caches = cache_bytes(machinery.manifest)
    with MemorySampler() as memory, loader_within_budget(machinery, host_bytes=caches) as loader:
        reader = ChartReader(machinery.bundle_dir, machinery.manifest, loader)
        reader.check(question)
        seen = reader.look(picture)
        answer = reader.answer(
            seen, question, wishes.mode, wishes.choice, max_new_tokens=wishes.max_new_tokens, say=say
        )
        return Answered(answer, seen.seconds, memory.peak_rss_bytes())


def answer_many(
    machinery: Machinery, rows: tuple[Row, ...], wishes: Wishes, tell: Callable[[int, Outcome], None]
) -> tuple[Outcome, ...]:
    """Answers many questions, and tells each; raises as `answer_chart`, but for rows' own problems."""
    with loader_within_budget(machinery, host_bytes=cache_bytes(machinery.manifest)) as loader:
        reader = ChartReader(machinery.bundle_dir, machinery.manifest, loader)
        return answer_rows(reader, rows, wishes.mode, wishes.choice, wishes.max_new_tokens, tell)
