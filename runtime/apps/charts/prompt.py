"""A question as the tokens that the language model reads, with the picture's places among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tokenizers import Tokenizer

from tm_export.runtime.apps.charts.contract import ChartQa
from tm_export.runtime.apps.plain_text import place_of_no_text
from tm_export.runtime.errors import UserError

TEXT: Final = -1
"""The visual place of a token of text."""


class QuestionError(UserError):
    """A question that cannot be put; the message says why."""


@dataclass(frozen=True)
class Prompt:
    """Ids of the prompt's tokens, 0 where the picture stands, and which visual token stands in each place."""

    ids: tuple[int, ...]
    visual_places: tuple[int, ...]


def prompt_of(question: str, tokenizer: Tokenizer, contract: ChartQa, *, program: bool) -> Prompt:
    """The prompt that the model was trained with, around a question; it asks for a program or for a short answer.

    Raises:
        QuestionError: the question is empty, has characters that are no text, or is too long.
    """
    asked = question.strip()
    if not asked:
        raise QuestionError("the question is empty: ask something about the chart")
    if (place := place_of_no_text(asked)) is not None:
        raise QuestionError(
            f"the question has U+{ord(asked[place]):04X} at position {place}, which is no text: remove it"
        )
    suffix = contract.program_suffix if program else ""
    before, after = (
        tokenizer.encode(text, add_special_tokens=False).ids
        for text in (contract.before_picture, f"{contract.before_question}{asked}{suffix}{contract.after_question}")
    )
    too_many = len(before) + contract.visual_tokens + len(after) - contract.prompt_tokens
    if too_many > 0:
        alone = len(tokenizer.encode(asked, add_special_tokens=False).ids)
        raise QuestionError(
            f"the question is too long: it takes {alone} tokens, and {max(alone - too_many, 0)} fit beside the "
            "picture and the rest of the prompt; ask a shorter one"
        )
    ids = (*before, *[0] * contract.visual_tokens, *after)
    places = (*[TEXT] * len(before), *range(contract.visual_tokens), *[TEXT] * len(after))
    return Prompt(ids, places)
