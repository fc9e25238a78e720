"""Many questions: read from a CSV file, answered one by one, and written to one."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

from tm_export.runtime.apps.charts.chart_reader import Answer, ChartReader, Mode
from tm_export.runtime.apps.charts.picture import PictureError, read_picture
from tm_export.runtime.apps.charts.programs.relaxed_accuracy import relaxed_accuracy
from tm_export.runtime.apps.charts.prompt import QuestionError
from tm_export.runtime.apps.charts.write_text import Choice
from tm_export.runtime.errors import UserError

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")
COLUMNS: Final = ("image", "question", "answer", "source", "text", "truth", "right", "problem")
"""Of the file that is written."""


class QuestionsError(UserError):
    """A file or folder that gives no questions; the message says why."""


@dataclass(frozen=True)
class Row:
    """A question about a picture, and its answer where that is known."""

    image: Path
    question: str
    truth: str | None = None


@dataclass(frozen=True)
class Outcome:
    """A row's answer, or the problem that there was."""

    row: Row
    answer: Answer | None
    problem: str = ""

    @property
    def is_right(self) -> bool | None:
        """By relaxed accuracy; None where the answer is not known."""
        if self.row.truth is None:
            return None
        return self.answer is not None and relaxed_accuracy(self.answer.text, self.row.truth)


def read_rows(path: Path, folder: Path) -> tuple[Row, ...]:
    """The rows of a CSV file with the columns `image` (in the folder), `question` and, if known, `answer`.

    Raises:
        QuestionsError: it cannot be read, lacks a column, or has no rows.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = {"image", "question"} - set(reader.fieldnames or ())
            if missing:
                raise QuestionsError(f"{path} has no column {min(missing)!r}: give image, question and maybe answer")
            rows = tuple(Row(folder / each["image"], each["question"] or "", each.get("answer")) for each in reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise QuestionsError(f"{path} cannot be read ({error}): give a CSV file in UTF-8") from None
    if not rows:
        raise QuestionsError(f"{path} has no rows: give a question in each")
    return rows


def rows_of_folder(folder: Path, question: str) -> tuple[Row, ...]:
    """The same question about every picture in a folder; raises QuestionsError if it has none."""
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not images:
        raise QuestionsError(f"{folder} has no pictures ({', '.join(SUFFIXES)}): name another folder")
    return tuple(Row(image, question) for image in images)


def answer_rows(
    reader: ChartReader,
    rows: Sequence[Row],
    mode: Mode,
    choice: Choice,
    max_new_tokens: int | None,
    tell: Callable[[int, Outcome], None],
) -> tuple[Outcome, ...]:
    """Answers all rows, and tells each; a picture that several rows in turn ask about is looked at once.

    A picture that cannot be read or a question that cannot be put is its row's problem; see `ChartReader` for others.
    """
    outcomes: list[Outcome] = []
    for image, group in groupby(rows, key=lambda row: row.image):
        try:
            seen = reader.look(read_picture(image, reader.contract.canvas))
            problem = ""
        except PictureError as error:
            problem = str(error)
        for row in group:
            if problem:
                outcomes.append(Outcome(row, None, problem))
            else:
                try:
                    answer = reader.answer(seen, row.question, mode, choice, max_new_tokens=max_new_tokens)
                    outcomes.append(Outcome(row, answer))
                except QuestionError as error:
                    outcomes.append(Outcome(row, None, str(error)))
            tell(len(outcomes), outcomes[-1])
    return tuple(outcomes)


def write_outcomes(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Writes a CSV file; raises OSError if it cannot."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for each in outcomes:
            answer = each.answer
            writer.writerow(
                {
                    "image": each.row.image.name,
                    "question": each.row.question,
                    "answer": answer.text if answer else "",
                    "source": answer.source if answer else "",
                    "text": answer.written[0].text if answer else "",
                    "truth": each.row.truth or "",
                    "right": {None: "", True: "yes", False: "no"}[each.is_right],
                    "problem": each.problem,
                }
            )
