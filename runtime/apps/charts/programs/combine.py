"""Which of two answers to a question is given: that of a program, or the one the model writes directly.

TinyChart's combination of both (arXiv 2404.16635): programs are for questions in which a word asks for calculation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from tm_export.runtime.apps.charts.programs.errors import ProgramFailed, ProgramRefused
from tm_export.runtime.apps.charts.programs.program_answer import program_answer

PROGRAM_WORDS: Final = (
    *("sum", "difference", "times", "summation", "exceed", "below", "addition", "fewer", "subtract", " mode "),
    *("ratio", "division", "average", "mean", "bigger", "greater", " less ", "tallest", "number", "divide", " add "),
    *("absolute", "dividing", "differ", " minus ", "how many colors", "lowest", "what is the value", "higher"),
    *("longer", " biggest "),
)
"""As published, spaces included: those without are found within words too, as `sum` is in `consumption`."""


@dataclass(frozen=True)
class Combined:
    """The answer, whose it is, and why the program's was not taken although the question asks for one."""

    text: str
    source: Literal["program", "direct"]
    reason: str = ""


def needs_program(question: str) -> bool:
    """Whether the question asks for calculation: it holds one of the words, ignoring case."""
    lower = question.lower()
    return any(word in lower for word in PROGRAM_WORDS)


def combine(question: str, write_program: Callable[[], str], answer_directly: Callable[[], str]) -> Combined:
    """The program's answer if the question asks for one and it has one, and the direct answer if not.

    Args:
        question: As the user asked it.
        write_program: Has the model answer with detailed steps; called only if needed.
        answer_directly: Has the model answer without; called only if needed.
    """
    if not needs_program(question):
        return Combined(answer_directly(), "direct")
    return by_program(write_program, answer_directly)


def by_program(write_program: Callable[[], str], answer_directly: Callable[[], str]) -> Combined:
    """The program's answer if it has one, and the direct answer if not; the arguments are those of `combine`."""
    try:
        return Combined(program_answer(write_program()), "program")
    except (ProgramFailed, ProgramRefused) as error:
        return Combined(answer_directly(), "direct", str(error))
