"""What of a user's words is no text."""

from __future__ import annotations

import unicodedata


def place_of_no_text(text: str) -> int | None:
    """The position of the first character that is no text: a control character but for blanks, or half of one."""
    for place, character in enumerate(text):
        kind = unicodedata.category(character)
        if kind == "Cs" or (kind == "Cc" and not character.isspace()):
            return place
    return None
