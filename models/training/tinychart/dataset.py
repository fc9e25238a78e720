"""Drawn charts as training takes them: small pictures, the text in them, questions by token ids.

Legend: B pictures, L labels, N tokens of a text.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from tm_export.models.tinychart.prompt import AFTER_QUESTION, BEFORE_PICTURE, BEFORE_QUESTION, PROGRAM_SUFFIX
from tm_export.models.tinychart.tiny.sizes import STOP, VISION_TOWER
from tm_export.models.training.tinychart.canvas import SIZE
from tm_export.models.training.tinychart.charts import NAMES, SERIES, Chart, chart_rng, draw, random_chart
from tm_export.models.training.tinychart.questions import Question

IGNORED: Final = -100
"""The target of a token that no loss is for, as PyTorch's cross entropy has it."""

WORDS: Final = (*NAMES, *dict.fromkeys(name for pair in SERIES for name in pair))
NO_WORD: Final = len(WORDS)
BLANK_DIGIT: Final = 10
LEGEND: Final = 5
"""The place of a series' name; others are 0 to 4, from left to right or clockwise."""

NO_ROW: Final = 2
"""The series of a category's name."""

LARGEST, SMALLEST, BETWEEN, NO_RANK = range(4)
"""Of a value among those of its series."""

CLASSES: Final = (
    *[BLANK_DIGIT + 1] * 2,
    *[NO_WORD + 1] * 2,
    LEGEND + 1,
    NO_ROW + 1,
    *[BLANK_DIGIT + 1] * 4,
    *[NO_RANK + 1] * 2,
)
"""Of a label: tens and ones of its number, its word; its category's name and place, its series; tens and ones of the
category's value in the first series and in the second; the rank of the first and of the second."""

PLACE: Final = 4
"""Which of the classes is the place; of the others the last one says that there is none."""


@dataclass(frozen=True)
class DrawnChart:
    """A chart, its picture (uint8 [96, 96, 3]) and its labels.

    Each row of these, int64 [L, 1 + len(CLASSES)], is the patch that a label's centre lies in, and what there is to
    say about it, in the order of `CLASSES`.
    """

    chart: Chart
    picture: np.ndarray
    labels: Tensor


def draw_small(seed: int, index: int) -> DrawnChart:
    """Return chart number `index` of a seed."""
    chart = random_chart(chart_rng(seed, index))
    drawing = draw(chart)
    side = VISION_TOWER.image_size
    picture = np.asarray(drawing.image.resize((side, side), Image.Resampling.BICUBIC))
    patches = VISION_TOWER.side
    rows = []
    meanings = meanings_of(chart, [label.text for label in drawing.labels])
    for label, meaning in zip(drawing.labels, meanings, strict=True):
        column, row = (min(int(place * patches / SIZE), patches - 1) for place in (label.x, label.y))
        rows.append((row * patches + column, *meaning))
    return DrawnChart(chart, picture, torch.tensor(rows))


def meanings_of(chart: Chart, texts: Sequence[str]) -> list[tuple[int, ...]]:
    """Return the classes of each label, given in the order of drawing, in which values and names follow categories."""
    values = iter([(place, row) for place in range(len(chart.names)) for row in range(len(chart.values))])
    names = iter(range(len(chart.names)))
    meanings = []
    for text in texts:
        if text in chart.series:
            place, row = LEGEND, chart.series.index(text)
        else:
            place, row = next(values) if text.isdigit() else (next(names), NO_ROW)
        whose = NO_WORD if place == LEGEND else WORDS.index(chart.names[place])
        of_place = [str(each[place]) if place != LEGEND else "" for each in chart.values]
        digits = [digit for value in (*of_place, "")[:2] for digit in digits_of(value)]
        ranks = [rank_of(each, place) for each in chart.values]
        word = WORDS.index(text) if not text.isdigit() else NO_WORD
        meanings.append((*digits_of(text), word, whose, place, row, *digits, *(*ranks, NO_RANK)[:2]))
    return meanings


def rank_of(values: Sequence[int], place: int) -> int:
    """Return whether the value of a place is the largest or the smallest; the legend's has no rank."""
    if place == LEGEND:
        return NO_RANK
    if values[place] == max(values):
        return LARGEST
    return SMALLEST if values[place] == min(values) else BETWEEN


def digits_of(text: str) -> tuple[int, int]:
    """Return the tens digit and the ones digit of a number below 100; blank where there is none."""
    if not text.isdigit():
        return BLANK_DIGIT, BLANK_DIGIT
    return (int(text) // 10 or BLANK_DIGIT), int(text) % 10


def pixels_of(charts: Sequence[DrawnChart]) -> Tensor:
    """Return pictures [B, 3, 96, 96] in −1..1."""
    levels = torch.from_numpy(np.stack([chart.picture for chart in charts]))
    return levels.permute(0, 3, 1, 2).float() / 127.5 - 1


def random_charts(charts: Sequence[DrawnChart], count: int, generator: torch.Generator) -> list[DrawnChart]:
    """Return so many of the charts."""
    return [charts[i] for i in torch.randint(len(charts), (count,), generator=generator).tolist()]


def labels_of(charts: Sequence[DrawnChart]) -> tuple[Tensor, Tensor]:
    """Return of all labels of some charts the number of the chart [L], and what there is to say [L, 1 + classes]."""
    picture_L = torch.cat([torch.full((len(chart.labels),), i) for i, chart in enumerate(charts)])
    return picture_L, torch.cat([chart.labels for chart in charts])


@dataclass(frozen=True)
class Dialogue:
    """Ids of a prompt, before and after the picture, and of the answer that is wanted."""

    before: tuple[int, ...]
    question: tuple[int, ...]
    answer: tuple[int, ...]


def dialogue(tokenizer: Tokenizer, question: Question, *, program: bool) -> Dialogue:
    """Return how a question is put and answered: by a program where one is wanted and there is one."""
    by_program = program and question.program
    text = question.text + (PROGRAM_SUFFIX if by_program else "")
    wanted = question.program if by_program else question.answer
    parts = (BEFORE_PICTURE, BEFORE_QUESTION + text + AFTER_QUESTION, wanted)
    before, asked, answer = (tuple(tokenizer.encode(part).ids) for part in parts)
    return Dialogue(before, asked, (*answer, STOP))


def pad(dialogues: Sequence[Dialogue], visual_tokens: int) -> tuple[Tensor, Tensor]:
    """Return ids [B, N], 0 where the picture and padding stand, and what follows each: [B, N], IGNORED in prompts."""
    length = max(len(d.before) + visual_tokens + len(d.question) + len(d.answer) for d in dialogues) - 1
    ids = torch.zeros(len(dialogues), length, dtype=torch.int64)
    targets = torch.full((len(dialogues), length), IGNORED)
    for row, d in enumerate(dialogues):
        text = torch.tensor((*d.before, *[0] * visual_tokens, *d.question, *d.answer))
        ids[row, : len(text) - 1] = text[:-1]
        first = len(text) - len(d.answer)
        targets[row, first - 1 : len(text) - 1] = text[first:]
    return ids, targets


def chance(generator: torch.Generator) -> random.Random:
    """Return Python's kind of generator, seeded by PyTorch's."""
    return random.Random(int(torch.randint(2**62, (), generator=generator)))
