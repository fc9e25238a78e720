"""From what the model writes when asked for steps to the answer."""

from __future__ import annotations

from tm_export.runtime.apps.charts.programs.answer import answer_text
from tm_export.runtime.apps.charts.programs.program import run_program
from tm_export.runtime.apps.charts.programs.program_lines import program_lines


def program_answer(text: str) -> str:
    """The answer of the program in a model's text.

    Raises:
        NoProgram: the text holds none.
        ProgramFailed: it has no answer, or none that is finite.
        ProgramRefused: it is not in the subset of Python that is allowed, or too large.
    """
    return answer_text(run_program(program_lines(text)))
