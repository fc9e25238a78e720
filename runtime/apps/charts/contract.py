"""What a host needs to answer questions about charts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tm_export.runtime.apps.contract import HostContract, TokenizerFile
from tm_export.runtime.manifest.document import Count


class ChartQa(HostContract):
    """What a host needs beside the components to answer questions about charts.

    A picture goes to the upper left of a `canvas` × `canvas` one (shrunk first if it is larger), and through
    image_preprocess, vision_tower (`merged`) and connector becomes `visual_tokens` tokens. They stand between the
    tokens of `before_picture` and those of `before_question`, the question and `after_question`, which are one text;
    each text is made into ids by the tokenizer, a file of the `tokenizers` library, without special tokens. A
    question whose answer shall be a program ends in `program_suffix`. The language model reads `chunk` tokens at a
    time by its variant `prefill` and single ones by `decode`; each call gives keys and values (`new_keys_0`, …) that
    the host puts into the caches (`keys_0`, …) from the place `cached` on. An answer ends at `stop_token`. Picture and
    prompt are at most `prompt_tokens`, and with the answer `max_tokens`.
    """

    kind: Literal["chart"] = "chart"
    version: Literal[1] = 1
    files: TokenizerFile
    canvas: Count
    visual_tokens: Count
    max_tokens: Count
    prompt_tokens: Count
    chunk: Count
    before_picture: str
    before_question: str
    after_question: str
    program_suffix: str
    stop_token: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _an_answer_fits(self) -> ChartQa:
        if not self.visual_tokens < self.prompt_tokens < self.max_tokens:
            raise ValueError(
                f"{self.visual_tokens} visual tokens, prompts of {self.prompt_tokens} and {self.max_tokens} tokens in "
                "all leave no room for a question or an answer"
            )
        return self
