"""Why a program gives no answer."""

from __future__ import annotations


class ProgramRefused(ValueError):
    """The program holds something that is not allowed, or would need more than a bound."""


class ProgramFailed(ValueError):
    """The program is allowed, and went wrong as any can: a division by zero, a name without a value, no answer."""


class NoProgram(ProgramFailed):
    """The model's text holds no complete step."""
