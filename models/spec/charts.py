"""What a model that answers questions about charts says beside its components: its sizes, its prompt, its tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ChartQaSpec:
    """How a host answers with the components image_preprocess, vision_tower, connector, llm and sampling.

    Attributes:
        tokenizer: from the model's checkpoint, where it has one, to the text of a `tokenizer.json`.
        synthetic_tokenizer: text of a `tokenizer.json` for a synthetic checkpoint; None for a model that has none.
        canvas: rows and columns of the largest picture that is taken as it is.
        visual_tokens: of one picture.
        max_tokens: of picture, prompt and answer together.
        prompt_tokens: of picture and prompt together.
        chunk: tokens that the language model's variant `prefill` takes at a time.
        before_picture: text of the prompt.
        before_question: text between picture and question.
        after_question: text that the answer follows.
        program_suffix: after a question whose answer shall be a program.
        stop_token: id of the token that ends an answer.
    """

    tokenizer: Callable[[Path | None], str]
    synthetic_tokenizer: Callable[[], str] | None
    canvas: int
    visual_tokens: int
    max_tokens: int
    prompt_tokens: int
    chunk: int
    before_picture: str
    before_question: str
    after_question: str
    program_suffix: str
    stop_token: int
