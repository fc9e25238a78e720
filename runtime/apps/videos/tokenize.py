"""From a prompt to the ids that the text encoder takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from tokenizers import Tokenizer

from tm_export.runtime.apps.plain_text import place_of_no_text
from tm_export.runtime.apps.videos.clean import clean_prompt
from tm_export.runtime.apps.videos.contract import TextToVideo
from tm_export.runtime.engines.base import Array
from tm_export.runtime.errors import UserError

PADDING: Final = 0
END: Final = 1
"""T5's ids."""

_UNKNOWN: Final = "<unk>"


class PromptError(UserError):
    """A prompt of which no video can be made; the message says why."""


@dataclass(frozen=True)
class Tokens:
    """A prompt as ids [1, L] int64 and their mask [1, L] float32 (1 for text and its end), and what is amiss with it.

    `text` is what was made into tokens, `left_out` the number of tokens at its end for which there was no room, and
    `unknown` the parts that the tokenizer does not know.
    """

    input_ids_BL: Array
    mask_BL: Array
    text: str
    left_out: int
    unknown: tuple[str, ...]


def tokenize(prompt: str, tokenizer: Tokenizer, video: TextToVideo) -> Tokens:
    """The prompt with the model's suffix, cleaned, as at most L − 1 ids, the end's id, and padding.

    Raises:
        PromptError: the prompt is empty, has control characters or broken characters in it, or leaves nothing that
            the tokenizer knows.
    """
    if not prompt.strip():
        raise PromptError("the prompt is empty: say in words what the video shows")
    if (place := place_of_no_text(prompt)) is not None:
        raise PromptError(f"the prompt has U+{ord(prompt[place]):04X} at position {place}, which is no text: remove it")
    if not clean_prompt(prompt, video.cleaning).strip():
        raise PromptError(f"the prompt {prompt!r} is empty once it is cleaned: say in words what the video shows")
    text = clean_prompt(prompt + video.prompt_suffix, video.cleaning)
    encoding = tokenizer.encode(text, add_special_tokens=False)
    unknown_id = tokenizer.token_to_id(_UNKNOWN)
    parts = list(zip(encoding.ids, encoding.offsets, strict=True))
    unknown = tuple(text[start:end] for token, (start, end) in parts if token == unknown_id)
    if len(unknown) == len(parts):
        raise PromptError(f"the tokenizer knows nothing of the prompt {prompt!r}: write it in English")
    room = video.text_tokens - 1
    ids = [*encoding.ids[:room], END]
    input_ids_BL = np.full((1, video.text_tokens), PADDING, np.int64)
    input_ids_BL[0, : len(ids)] = ids
    mask_BL = (np.arange(video.text_tokens) < len(ids)).astype(np.float32)[None]
    return Tokens(input_ids_BL, mask_BL, text, max(0, len(encoding.ids) - room), unknown)
