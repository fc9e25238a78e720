"""Answers questions about charts with a bundle's blocks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from tokenizers import Tokenizer

from tm_export.runtime.apps.charts.contract import ChartQa
from tm_export.runtime.apps.charts.picture import Picture
from tm_export.runtime.apps.charts.programs.combine import Combined, by_program, combine
from tm_export.runtime.apps.charts.prompt import prompt_of
from tm_export.runtime.apps.charts.write_text import Choice, Written, write_text
from tm_export.runtime.apps.contract import contract_in
from tm_export.runtime.apps.tokenizer_file import read_tokenizer
from tm_export.runtime.engines.base import Array, EngineError
from tm_export.runtime.loading.fitted import fitted
from tm_export.runtime.loading.loader import Loader
from tm_export.runtime.manifest import Manifest

Mode = Literal["combined", "program", "direct"]
"""Combined: by a program where the question asks for calculation, else directly."""

PICTURE_RUNS = (("image_preprocess", "full"), ("vision_tower", "merged"), ("connector", "full"))
TEXT_RUNS = (("llm", "prefill"), ("llm", "decode"), ("sampling", "full"))


@dataclass(frozen=True)
class Answer:
    """An answer, whose it is, why no program's was taken though one was asked for, and all that the model wrote."""

    text: str
    source: Literal["program", "direct"]
    reason: str
    written: tuple[Written, ...]


@dataclass(frozen=True)
class Seen:
    """A picture as visual tokens [1, P, C], and the seconds that it took."""

    visual_1PC: Array
    seconds: float


def contract_of(manifest: Manifest) -> ChartQa:
    """How the bundle answers questions.

    Raises:
        BundleError: it answers none, or lacks a component or a variant for it.
    """
    contract = contract_in(
        manifest,
        ChartQa,
        f"the bundle of {manifest.model} answers no questions about charts: name one of a model that does, "
        "exported with all its components",
    )
    for component, variant in (*PICTURE_RUNS, *TEXT_RUNS):
        manifest.component(component).variant(variant)
    return contract


class ChartReader:
    """A bundle that answers questions, its loader and its tokenizer.

    The loader must be its owner's to close, and have no schedule that still counts.
    """

    def __init__(self, bundle_dir: Path, manifest: Manifest, loader: Loader) -> None:
        self.contract: ChartQa = contract_of(manifest)
        self.tokenizer: Tokenizer = read_tokenizer(bundle_dir, self.contract)
        self._manifest, self._loader = manifest, loader

    def check(self, question: str) -> None:
        """Raises QuestionError if the question cannot be put, before anything is run."""
        prompt_of(question, self.tokenizer, self.contract, program=True)

    def look(self, picture: Picture) -> Seen:
        """The picture's visual tokens.

        Raises:
            BudgetTooSmall: some block cannot run within the loader's budget.
            EngineError: a block cannot be loaded or run, or gives values that are not finite.
        """
        start = time.perf_counter()
        self._loader.schedule(PICTURE_RUNS)
        value: Array | None = None
        given: dict[str, object] = {
            "canvas": picture.canvas_1SS3,
            "height": [picture.height],
            "width": [picture.width],
        }
        for component, variant in PICTURE_RUNS:
            made = self._loader.run(component, variant, fitted(self._manifest, component, variant, given))
            given = dict(made)
            (value,) = made.values()
        assert value is not None
        if not np.isfinite(value).all():
            raise EngineError("the visual tokens hold NaN or infinity: export again with --precision fp32")
        return Seen(value, time.perf_counter() - start)

    def write(
        self,
        seen: Seen,
        question: str,
        choice: Choice,
        *,
        program: bool,
        max_new_tokens: int | None = None,
        say: Callable[[str], None] = lambda piece: None,
    ) -> Written:
        """What the model writes to a question; see `write_text`."""
        prompt = prompt_of(question, self.tokenizer, self.contract, program=program)
        return write_text(
            self._loader,
            self._manifest,
            self.contract,
            self.tokenizer,
            seen.visual_1PC,
            prompt,
            choice,
            max_new_tokens,
            say,
        )

    def answer(
        self,
        seen: Seen,
        question: str,
        mode: Mode,
        choice: Choice,
        *,
        max_new_tokens: int | None = None,
        say: Callable[[str], None] = lambda piece: None,
    ) -> Answer:
        """The answer to a question. Where its program is none, or fails, the model is asked for a direct answer.

        Raises:
            QuestionError: the question cannot be put.
            BudgetTooSmall, EngineError: as `look`.
        """
        written: list[Written] = []

        def ask(*, program: bool) -> str:
            if written:
                say("\n")
            written.append(self.write(seen, question, choice, program=program, max_new_tokens=max_new_tokens, say=say))
            return written[-1].text.strip()

        program, direct = partial(ask, program=True), partial(ask, program=False)
        if mode == "combined":
            found = combine(question, program, direct)
        else:
            found = by_program(program, direct) if mode == "program" else Combined(direct(), "direct")
        return Answer(found.text, found.source, found.reason, tuple(written))
