"""The language model's loop: chunks of the prompt, then token after token, over caches of fixed length.

Legend: N tokens of a call, P visual tokens, C channels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from tm_export.runtime.apps.charts.contract import ChartQa
from tm_export.runtime.apps.charts.prompt import TEXT, Prompt
from tm_export.runtime.engines.base import Array, EngineError, bytes_of
from tm_export.runtime.loading.fitted import fitted
from tm_export.runtime.loading.loader import Loader
from tm_export.runtime.manifest import Manifest, TensorSpec

CACHES = ("keys_", "values_")
"""What the inputs begin with that are caches; the outputs that go there are called `new_…`."""


@dataclass(frozen=True)
class Choice:
    """How tokens are picked: the likeliest at temperature 0, else by chance among the likeliest up to `top_p`."""

    temperature: float = 0.0
    top_p: float = 0.7
    seed: int = 0


@dataclass(frozen=True)
class Written:
    """What the model wrote.

    `is_whole` says whether it came to its end, or was cut off at the most tokens; the seconds are until the first
    token was picked, and from there on.
    """

    text: str
    ids: tuple[int, ...]
    is_whole: bool
    prompt_tokens: int
    first_seconds: float
    rest_seconds: float

    @property
    def tokens_per_second(self) -> float:
        """After the first token; 0 if there was no other."""
        return (len(self.ids) - 1) / self.rest_seconds if len(self.ids) > 1 else 0.0


def write_text(
    loader: Loader,
    manifest: Manifest,
    contract: ChartQa,
    tokenizer: Tokenizer,
    visual_1PC: Array,
    prompt: Prompt,
    choice: Choice,
    max_new_tokens: int | None = None,
    say: Callable[[str], None] = lambda piece: None,
) -> Written:
    """Writes the answer to a prompt, and says each piece of its text as it comes.

    The loader's schedule is this function's own: nothing of an earlier one holds after it.

    Raises:
        BudgetTooSmall: some block cannot run within the loader's budget.
        EngineError: a block cannot be loaded or run, or the logits are not finite.
    """
    room = contract.max_tokens - len(prompt.ids)
    most = room if max_new_tokens is None else min(max_new_tokens, room)
    chunks = -(-len(prompt.ids) // contract.chunk)
    rest = [("llm", "decode"), ("sampling", "full")] * (most - 1)
    loader.schedule([*[("llm", "prefill")] * chunks, ("sampling", "full"), *rest])
    reader = _Reader(loader, manifest, visual_1PC)
    start = time.perf_counter()
    logits_1V = reader.read_prompt(prompt, contract.chunk)
    noise = np.random.Generator(np.random.PCG64(choice.seed))
    ids: list[int] = []
    told = ""
    first = start
    for token in _picks(loader, manifest, reader, logits_1V, choice, noise, most):
        first = first if ids else time.perf_counter()
        ids.append(token)
        if token == contract.stop_token:
            break
        text = tokenizer.decode(ids)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):  # half of a character: the rest is to come
            say(text[len(told) :])
            told = text
    is_whole = ids[-1] == contract.stop_token
    text = tokenizer.decode(ids[:-1] if is_whole else ids)
    return Written(text, tuple(ids), is_whole, len(prompt.ids), first - start, time.perf_counter() - first)


def _picks(
    loader: Loader,
    manifest: Manifest,
    reader: _Reader,
    logits_1V: Array,
    choice: Choice,
    noise: np.random.Generator,
    most: int,
) -> Iterator[int]:
    for place in range(most):
        if not np.isfinite(logits_1V).all():
            raise EngineError(f"the logits of token {place} hold NaN or infinity: export again with --precision fp32")
        values: Mapping[str, object] = {
            "logits": logits_1V,
            "temperature": [choice.temperature],
            "top_p": [choice.top_p],
            "noise": [noise.random(dtype=np.float32)],
        }
        token = int(loader.run("sampling", "full", fitted(manifest, "sampling", "full", values))["token"][0])
        yield token
        if place + 1 < most:
            logits_1V = reader.read([token], [TEXT], "decode")


def cache_bytes(manifest: Manifest) -> int:
    """What the language model's caches take once they are full; raises `BundleError` if there is none."""
    return bytes_of(_caches_of(manifest))


def _caches_of(manifest: Manifest) -> tuple[TensorSpec, ...]:
    specs = manifest.component("llm").variant("decode").inputs
    return tuple(spec for spec in specs if spec.name.startswith(CACHES))


class _Reader:
    """The language model with its caches."""

    def __init__(self, loader: Loader, manifest: Manifest, visual_1PC: Array) -> None:
        self._loader, self._manifest, self._visual = loader, manifest, visual_1PC
        self._caches = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in _caches_of(manifest)}
        self._cached = 0

    def read_prompt(self, prompt: Prompt, chunk: int) -> Array:
        """Reads the prompt in chunks, the last one filled up; returns the logits [1, V] after its last token."""
        logits_1V = np.empty(0)
        for start in range(0, len(prompt.ids), chunk):
            ids, places = prompt.ids[start : start + chunk], prompt.visual_places[start : start + chunk]
            filling = chunk - len(ids)
            logits_1V = self.read([*ids, *[0] * filling], [*places, *[TEXT] * filling], "prefill", len(ids))
        return logits_1V

    def read(self, ids: Sequence[int], places: Sequence[int], variant: str, real: int = 1) -> Array:
        """Reads tokens of which so many are real; returns the logits [1, V] after the last of those."""
        values: Mapping[str, object] = {
            "input_ids": [ids],
            "visual_places": [places],
            "visual": self._visual,
            "cached": [self._cached],
            "last": [real - 1],
            **self._caches,
        }
        made = self._loader.run("llm", variant, fitted(self._manifest, "llm", variant, values))
        for name, cache in self._caches.items():
            cache[:, :, self._cached : self._cached + real] = made[f"new_{name}"][:, :, :real]
        self._cached += real
        return made["logits"]
