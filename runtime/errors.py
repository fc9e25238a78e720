"""What can go wrong for a user of a bundle, and the exit code that says which kind it was."""

from __future__ import annotations

from typing import Final

OK: Final = 0
DEFECT: Final = 1
USAGE: Final = 2
REFUSED: Final = 3
DIFFERENT: Final = 4
BUDGET: Final = 5
INTERRUPTED: Final = 130


class UserError(ValueError):
    """An error with a message for the user, which is told as it is: what, which value, what to do."""

    exit_code: int = USAGE


class UsageError(UserError):
    """The request itself is wrong; the message says what to write instead."""
