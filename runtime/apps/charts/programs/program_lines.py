"""The steps of a program in what the model writes: `<comment>#The bars</comment>`, `<step>Y=[12, 5]</step>`."""

from __future__ import annotations

import re
from typing import Final

from tm_export.runtime.apps.charts.programs.errors import NoProgram, ProgramRefused
from tm_export.runtime.apps.charts.programs.limits import MOST_TEXT

_TAG: Final = re.compile(r"</?(?:step|comment)>")
_OPEN, _CLOSE = "<step>", "</step>"
_BLANKS: Final = " \t\r"


def program_lines(text: str) -> tuple[str, ...]:
    """The code of the steps, in order, without tags, blanks around it, and steps that are empty.

    A step begins after `<step>`, or where the text line does if that tag is missing. It ends at the next tag, or at the
    end of its text line. The last text line's step needs its closing tag: a model that was cut off while writing
    `Answer=123` may have written `Answer=12`, so what is not closed there is left out. Published code takes whole text
    lines that hold a tag, which is the same for text that is well formed.

    Raises:
        NoProgram: there is no step.
        ProgramRefused: the text is too long.
    """
    if len(text) > MOST_TEXT:
        raise ProgramRefused(f"the model's text has {len(text)} characters: at most {MOST_TEXT} are read")
    text_lines = text.split("\n")
    steps = [
        step
        for number, line in enumerate(text_lines, start=1)
        for step in _steps(line, cut_off=number == len(text_lines))
    ]
    if not steps:
        raise NoProgram("the model's text holds no complete <step>…</step>: ask it for an answer with detailed steps")
    return tuple(steps)


def _steps(line: str, *, cut_off: bool) -> list[str]:
    found = []
    before, start = "", 0
    for tag in _TAG.finditer(line):
        opened_here = before == _OPEN or (before == "" and tag[0] == _CLOSE)
        if opened_here:
            found.append(line[start : tag.start()])
        before, start = tag[0], tag.end()
    if before == _OPEN and not cut_off:
        found.append(line[start:])
    return [step.strip(_BLANKS) for step in found if step.strip(_BLANKS)]
