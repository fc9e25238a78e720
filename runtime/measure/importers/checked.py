"""Checks what a foreign file holds against a pydantic model, and says plainly where it differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tm_export.runtime.measure.reading import UnreadableFile

_Checked = TypeVar("_Checked")


def checked(path: Path, value: Any, form: type[_Checked], expected: str) -> _Checked:
    """The value as `form`; raises UnreadableFile naming the first places where it is something else."""
    try:
        return TypeAdapter(form).validate_python(value)
    except ValidationError as error:
        raise UnreadableFile(f"{path} is not {expected} ({first_problems(error)})") from None


def first_problems(error: ValidationError) -> str:
    """The first places where a value does not fit, and why."""
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'the whole file'}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors(include_url=False)[:3]
    )
