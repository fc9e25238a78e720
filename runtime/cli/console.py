"""What the commands share: how they complain, and which memory budgets they refuse."""

from __future__ import annotations

import json
import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tm_export.runtime.errors import BUDGET, DEFECT, OK, UsageError


@dataclass(frozen=True)
class Complaints:
    """How one run of a command tells its errors: on stderr, with `--json` on stdout too, with `--debug` at length."""

    program: str
    as_json: bool = False
    debug: bool = False

    def say(self, message: str) -> None:
        """One line on stderr."""
        print(f"{self.program}: error: {message}", file=sys.stderr)

    def warn(self, message: str) -> None:
        """One line on stderr of what is amiss and ends nothing."""
        print(f"{self.program}: note: {message}", file=sys.stderr)

    def fail(self, message: str, code: int) -> int:
        """Tell of an error that ends the command (call it where the error is caught); returns the code."""
        if self.debug:
            traceback.print_exc()
        self.say(message)
        if self.as_json:
            print(json.dumps({"exit_code": code, "error": message}, indent=2))
        return code

    def conclude(self, code: int, complaint: str, answer: Mapping[str, Any], show: Callable[[], None]) -> int:
        """Print what was done, as JSON or by `show`, and what is amiss with it, if anything; returns the code."""
        if self.as_json:
            error = {"error": complaint} if complaint else {}
            print(json.dumps({"exit_code": code, **answer, **error}, indent=2))
        else:
            show()
        if complaint:
            self.say(complaint)
        return code

    def defect(self, error: Exception, culprit: str) -> int:
        """Tell of an error that nobody foresaw."""
        return self.fail(defect_of(error, culprit), DEFECT)


def defect_of(error: Exception, culprit: str) -> str:
    """An error that nobody foresaw, in one line."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first} (a defect in {culprit}; --debug shows where)"


@contextmanager
def without_warnings(*, shown: bool) -> Iterator[None]:
    """Keep libraries' warnings from the user, unless they are to be shown."""
    with warnings.catch_warnings():
        if not shown:
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def refuse_more_than_the_machine_has(memory_budget: int | None) -> None:
    """A plan that relies on memory that is not there ends in swapping or a kill: raises UsageError, not a warning."""
    from tm_export.runtime.loading.process_budget import machine_bytes
    from tm_export.runtime.readable import in_bytes

    if memory_budget is not None and memory_budget > machine_bytes():
        raise UsageError(
            f"--memory-budget {in_bytes(memory_budget)} is more than this machine's memory, "
            f"{in_bytes(machine_bytes())}: give less, or none for no bound"
        )


def held_too_much(peak_bytes: int, memory_budget: int | None) -> tuple[int, str]:
    """The exit code of a process that held so much at most, and what to say of it, if it is more than it was given."""
    if memory_budget is None or peak_bytes <= memory_budget:
        return OK, ""
    return BUDGET, exceeded_message("the process", peak_bytes, memory_budget)


def exceeded_message(process: str, peak_bytes: int, memory_budget: int) -> str:
    """What to say of a process that held more than it was given."""
    from tm_export.runtime.readable import in_bytes

    return (
        f"{process} held {in_bytes(peak_bytes)}, more than the budget of {in_bytes(memory_budget)}: the engine takes "
        "more than was reckoned; give a larger budget, or take what was held above it off this one"
    )
