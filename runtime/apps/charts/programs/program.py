"""A program's steps to the value of `Answer`: those of TinyChart (arXiv 2404.16635), in a subset of Python.

docs/programs.md has the subset, the functions and the bounds.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from tm_export.runtime.apps.charts.programs.errors import ProgramFailed, ProgramRefused
from tm_export.runtime.apps.charts.programs.evaluate import Evaluator
from tm_export.runtime.apps.charts.programs.limits import MOST_SOURCE, MOST_STEPS, Meter
from tm_export.runtime.apps.charts.programs.syntax import parsed
from tm_export.runtime.apps.charts.programs.values import Value


def run_program(steps: Sequence[str]) -> Value:
    """The value of `Answer` after all steps have run. All are checked before the first is run.

    Raises:
        ProgramRefused: a step is not in the subset, or the program too large in any way.
        ProgramFailed: a step has no value, or none of them assigns `Answer`.
    """
    if len(steps) > MOST_STEPS:
        raise ProgramRefused(f"the program has {len(steps)} steps: at most {MOST_STEPS} are allowed")
    characters = sum(len(step) for step in steps)
    if characters > MOST_SOURCE:
        raise ProgramRefused(f"the program has {characters} characters: at most {MOST_SOURCE} are allowed")
    meter = Meter()
    checked = [_checked(number, step) for number, step in enumerate(steps, start=1)]
    evaluator = Evaluator(meter)
    for number, statements in enumerate(checked, start=1):
        _run(evaluator, number, statements)
    if "Answer" not in evaluator.names:
        raise ProgramFailed("no step assigns Answer")
    return evaluator.names["Answer"]


def _checked(number: int, step: str) -> list[ast.stmt]:
    try:
        return parsed(step)
    except ProgramRefused as error:
        raise ProgramRefused(f"step {number}: {error}") from None


def _run(evaluator: Evaluator, number: int, statements: list[ast.stmt]) -> None:
    try:
        for statement in statements:
            evaluator.run(statement)
    except ProgramRefused as error:
        raise ProgramRefused(f"step {number}: {error}") from None
    except (MemoryError, RecursionError):
        raise ProgramRefused(f"step {number}: it needs more memory than there is") from None
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ProgramFailed(f"step {number}: {error}") from None
