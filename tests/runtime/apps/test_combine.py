"""Which answer is given, and that the model is not asked for another."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from tm_export.runtime.apps.charts.programs.combine import PROGRAM_WORDS, Combined, by_program, combine, needs_program


def never() -> NoReturn:
    raise AssertionError("the model was asked for nothing")


def says(text: str) -> Callable[[], str]:
    return lambda: text


@pytest.mark.parametrize(
    "question",
    [
        *("What is the sum of all bars?", "What's the DIFFERENCE between A and B?"),
        *("What is the average?", "What is the mode of both?"),
        *("How many colors are used?", "What is the value of the red bar?"),
        *("Is A less than B?", "Which is the tallest bar?"),
        *("What is the total consumption?", "What is the duration?"),
        *("Which is longer?", "What do you get if you add A to B?"),
    ],
)  # fmt: skip
def test_calculation_is_for_programs(question: str) -> None:
    assert needs_program(question)


@pytest.mark.parametrize(
    "question",
    [
        *("Which country is shown in red?", "In which year did it peak?"),
        *("What is the highest bar?", "", "Regardless of color?"),
        *("Which modern bar is red?", "What's in the address?", "Which is biggest?", "Which model is shown?"),
    ],
)  # fmt: skip
def test_the_rest_is_answered_directly(question: str) -> None:
    assert not needs_program(question)


def test_the_words_are_the_published_ones() -> None:
    assert len(PROGRAM_WORDS) == len(set(PROGRAM_WORDS)) == 31
    assert [word for word in PROGRAM_WORDS if word != word.strip()] == [
        " mode ",
        " less ",
        " add ",
        " minus ",
        " biggest ",
    ]


def test_a_program_answers() -> None:
    text = "<comment>#x</comment>\n<step>Y=[1, 2]</step>\n<step>Answer=np.sum(Y)</step>"
    assert combine("What is the sum?", says(text), never) == Combined("3", "program")


def test_a_direct_answer_asks_for_no_program() -> None:
    assert combine("Which country?", never, says("Chad")) == Combined("Chad", "direct")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<step>Answer=1/0</step>", "step 1: division by zero"),
        ("<step>Answer=np.array([1])/0</step>", "Answer is not finite: inf"),
        ("<step>Answer=np.nan</step>", "Answer is not finite: nan"),
        ("<step>import os</step>", "step 1: Import is not allowed"),
        ("<step>Y=[1]</step>", "no step assigns Answer"),
        ("3", "the model's text holds no complete <step>…</step>: ask it for an answer with detailed steps"),
    ],
)
def test_a_program_without_an_answer_gives_way(text: str, reason: str) -> None:
    assert combine("What is the sum?", says(text), says("3")) == Combined("3", "direct", reason)


def test_the_page_has_the_words() -> None:
    page = (Path(__file__).parents[3] / "docs" / "programs.md").read_text()
    paragraph = page.split("## Program or direct answer")[1].split("\n\n")[2]
    assert tuple(re.findall("`([^`]+)`", paragraph)) == PROGRAM_WORDS


def test_a_program_may_be_asked_for_whatever_the_question() -> None:
    assert by_program(says("<step>Answer=3</step>"), never) == Combined("3", "program")
    found = by_program(says("<step>Answer=1/0</step>"), says("4"))
    assert (found.text, found.source) == ("4", "direct") and found.reason
