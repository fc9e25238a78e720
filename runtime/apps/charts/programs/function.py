"""A function or method that programs may call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tm_export.runtime.apps.charts.programs.values import Value


@dataclass(frozen=True)
class Function:
    """What is run, how many arguments it takes by position, and which by name.

    What is run does work in proportion to the size of its arguments, or checks first. It raises ArithmeticError,
    LookupError, TypeError and ValueError where Python or NumPy would, ProgramRefused for what would be too large.
    """

    run: Callable[..., Value]
    least: int
    most: int
    keywords: tuple[str, ...] = ()


def call(function: Function, name: str, arguments: Sequence[Value], named: Mapping[str, Value]) -> Value:
    """What the function gives.

    Raises:
        TypeError: arguments are missing, too many, or have a name that it does not know.
        ArithmeticError, LookupError, TypeError, ValueError, ProgramRefused: as the function does.
    """
    if not function.least <= len(arguments) <= function.most:
        takes = str(function.least) if function.least == function.most else f"{function.least} to {function.most}"
        raise TypeError(f"{name} takes {takes} arguments, not {len(arguments)}")
    for keyword in named:
        if keyword not in function.keywords:
            raise TypeError(f"{name} takes no argument called {keyword}")
    return function.run(*arguments, **named)
