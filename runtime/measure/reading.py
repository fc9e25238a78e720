"""Reads text and JSON files that others wrote, with messages that say what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tm_export.runtime.errors import UserError


class UnreadableFile(UserError):
    """A file that is not what it should be; the message names it and says what was expected."""


def read_text(path: Path, expected: str) -> str:
    """The text of a UTF-8 file; `expected` says what the file should be, such as `a log of xcodebuild test`.

    Raises:
        UnreadableFile: it is missing, a folder, empty, or not text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UnreadableFile(f"{path} does not exist; name {expected}") from None
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"{path} is not UTF-8 text (byte {error.start}); name {expected}") from None
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read ({error.strerror}); name {expected}") from None
    if not text.strip():
        raise UnreadableFile(f"{path} is empty; name {expected}")
    return text


def read_json(path: Path, expected: str) -> Any:
    """The value in a JSON file; keys given twice, NaN and infinities are refused.

    Raises:
        UnreadableFile: as `read_text`, or it is no JSON.
    """
    text = read_text(path, expected)
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError:
        raise UnreadableFile(f"{path} is nested too deeply; name {expected}") from None
    except ValueError as error:
        raise UnreadableFile(f"{path} is not valid JSON ({error}); name {expected}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} is given twice")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
