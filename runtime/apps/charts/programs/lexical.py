"""What of a step is looked at before Python's parser sees it, which deep nesting can exhaust."""

from __future__ import annotations

import re
from typing import Final

from tm_export.runtime.apps.charts.programs.errors import ProgramRefused
from tm_export.runtime.apps.charts.programs.limits import MOST_BRACKETS, MOST_LINE, MOST_NESTED_TOKENS, MOST_WORD

_ESCAPES: Final = r"\\['\"\\nt]"
_TOKEN: Final = re.compile(
    r"(?P<space>[ \t]+)"
    r"|(?P<number>[0-9][A-Za-z0-9_]*(?:[.][A-Za-z0-9_]*)?)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    rf"|(?P<string>'(?:[^'\\\t]|{_ESCAPES})*'|\"(?:[^\"\\\t]|{_ESCAPES})*\")"
    r"|(?P<comment>[#].*)"
    r"|(?P<symbol>[-+*/%<>=!&|~^@:;,.()\[\]{}])"
)
_DIGITS: Final = "[0-9]+(?:_[0-9]+)*"
_NUMBER: Final = re.compile(rf"{_DIGITS}(?:[.](?:{_DIGITS})?)?(?:[eE][0-9]*)?")
"""Up to the sign of an exponent. A word right behind it, as in `1.if x`, would make Python's parser warn."""


def check_tokens(line: str) -> None:
    """Holds a step to the characters, words and nesting that are allowed.

    Raises:
        ProgramRefused: it is too long or too deeply nested; it holds a character that cannot be printed, or one
            outside of strings that the subset does not have; a string with a prefix, three quotes, a tab, or another
            escape than `\\'`, `\\"`, `\\\\`, `\\n` and `\\t`; or a number that is not decimal.
    """
    if len(line) > MOST_LINE:
        raise ProgramRefused(f"the step has {len(line)} characters: at most {MOST_LINE} are allowed")
    if not line.replace("\t", " ").isprintable():
        raise ProgramRefused("the step holds a character that cannot be printed")
    tokens_since_comma = [0]
    position = 0
    while position < len(line):
        if line.startswith(("'''", '"""'), position):
            raise ProgramRefused("the step holds a string with three quotes")
        token = _TOKEN.match(line, position)
        if token is None:
            raise ProgramRefused(f"the step holds {_named(line[position])}")
        if token.lastgroup in ("word", "number"):
            _check_word(token[0], line[token.end() : token.end() + 1])
        if token.lastgroup not in ("space", "comment"):
            _nest(tokens_since_comma, token[0])
        position = token.end()


def _named(character: str) -> str:
    if character in "'\"":
        return "a string that has no end, or in it a tab or an escape that is not allowed"
    return f"{character!r} outside of strings"


def _check_word(word: str, following: str) -> None:
    if len(word) > MOST_WORD:
        raise ProgramRefused(f"a name or number has {len(word)} characters: at most {MOST_WORD} are allowed")
    if word[0].isdigit() and not _NUMBER.fullmatch(word):
        raise ProgramRefused(f"{word} is no decimal number")
    if following in ("'", '"'):
        raise ProgramRefused(f"a string has the prefix {word}")


def _nest(tokens_since_comma: list[int], token: str) -> None:
    """Counts a token. The sum of the counts bounds the depth of the syntax tree: only a comma ends an expression."""
    if token in (",", ";"):
        tokens_since_comma[-1] = 0
    elif token in (")", "]", "}") and len(tokens_since_comma) > 1:
        tokens_since_comma.pop()
    else:
        tokens_since_comma[-1] += 1
    if token in ("(", "[", "{"):
        tokens_since_comma.append(0)
    if len(tokens_since_comma) - 1 > MOST_BRACKETS:
        raise ProgramRefused(f"more than {MOST_BRACKETS} brackets lie within each other")
    if sum(tokens_since_comma) > MOST_NESTED_TOKENS:
        raise ProgramRefused(f"an expression has more than {MOST_NESTED_TOKENS} parts that can lie within each other")
