"""TinyChart in the registry: the published size, and a tiny one with the same code.

The checkpoint of the published size is a folder with one folder for each repository, as it is published or as
`python -m tm_export.models.synthesize` writes it:

    vision_tower/    mPLUG/TinyChart-3B-768-siglip, or a plain SigLIP such as google/siglip-so400m-patch14-384
    llm/             mPLUG/TinyChart-3B-768, for language model and connector, in shards with their index
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from tm_export.models.spec.charts import ChartQaSpec
from tm_export.models.spec.model_size import ModelSize, SizeRefused
from tm_export.models.spec.registry import ComponentSpec, ModelSpec
from tm_export.models.spec.trained import trained_component
from tm_export.models.tinychart import prompt
from tm_export.models.tinychart.components import (
    LLM,
    connector_component,
    image_preprocess_component,
    llm_component,
    sampling_component,
    vision_tower_component,
)
from tm_export.models.tinychart.config import LanguageModelConfig, VisionTowerConfig
from tm_export.models.tinychart.tiny import WEIGHTS, sizes
from tm_export.models.tinychart.tokenizer import PHI_STOP, TOKENIZER, synthetic_tokenizer, tokenizer_of_phi

FULL: Final = VisionTowerConfig()
FULL_LLM: Final = LanguageModelConfig()
CANVAS: Final = 1536
MOST_TOKENS: Final = 2048
"""Positions that Phi-2 was trained with."""


def components(tower: VisionTowerConfig, llm: LanguageModelConfig, canvas: int) -> tuple[ComponentSpec, ...]:
    """Return the networks of these sizes, whose weights a checkpoint has."""
    return (
        image_preprocess_component(tower.image_size, canvas),
        vision_tower_component(tower),
        connector_component(llm),
        llm_component(llm),
        sampling_component(llm),
    )


def chart_qa(
    llm: LanguageModelConfig,
    canvas: int,
    *,
    tokenizer: Callable[[Path | None], str],
    synthetic_tokenizer: Callable[[], str] | None,
    prompt_tokens: int,
    stop_token: int,
) -> ChartQaSpec:
    """Return how a host answers with networks of these sizes."""
    return ChartQaSpec(
        tokenizer=tokenizer,
        synthetic_tokenizer=synthetic_tokenizer,
        canvas=canvas,
        visual_tokens=llm.visual_tokens,
        max_tokens=llm.max_tokens,
        prompt_tokens=prompt_tokens,
        chunk=llm.chunk,
        before_picture=prompt.BEFORE_PICTURE,
        before_question=prompt.BEFORE_QUESTION,
        after_question=prompt.AFTER_QUESTION,
        program_suffix=prompt.PROGRAM_SUFFIX,
        stop_token=stop_token,
    )


def published_tokenizer(checkpoint: Path | None) -> str:
    """Return the text of a `tokenizer.json` for the tokenizer in the checkpoint; raises TokenizerMissing."""
    assert checkpoint is not None, "the published networks have no weights without one"
    return tokenizer_of_phi(checkpoint / LLM.folder)


def resized(size: ModelSize, model: Callable[[LanguageModelConfig], ModelSpec], llm: LanguageModelConfig) -> ModelSpec:
    """Return a model whose cache has another length.

    Raises:
        SizeRefused: it has no room for an answer, or is longer than positions go; or a video is asked for.
    """
    if size.frames is not None or size.pixels is not None:
        raise SizeRefused(f"{model(llm).name} makes no videos: leave out --frames and --frame-size")
    spec = model(llm).chart_qa
    assert spec is not None
    if size.max_tokens is None:
        return model(llm)
    least = spec.prompt_tokens + 1
    if not least <= size.max_tokens <= MOST_TOKENS:
        raise SizeRefused(
            f"a cache of {size.max_tokens} tokens is too short or too long: choose {least} to {MOST_TOKENS}"
        )
    return model(replace(llm, max_tokens=size.max_tokens))


def published_model(llm: LanguageModelConfig) -> ModelSpec:
    """Return the published networks, over a cache of the language model's length."""
    return ModelSpec(
        name="tinychart-3b",
        description="Chart and question to an answer: SigLIP at 768 px that merges 2916 patches into 732, and Phi-2",
        components=components(FULL, llm, CANVAS),
        twin="tinychart-tiny",
        chart_qa=chart_qa(
            llm,
            CANVAS,
            tokenizer=published_tokenizer,
            synthetic_tokenizer=synthetic_tokenizer,
            prompt_tokens=1024,
            stop_token=PHI_STOP,
        ),
        resized=lambda size: resized(size, published_model, llm),
    )


def tiny_model(llm: LanguageModelConfig) -> ModelSpec:
    """Return the trained networks, over a cache of the language model's length."""
    return ModelSpec(
        name="tinychart-tiny",
        description="The same classes with three million parameters, trained on charts that are drawn here, at 96 px",
        components=tuple(
            trained_component(component, WEIGHTS) for component in components(sizes.VISION_TOWER, llm, sizes.CANVAS)
        ),
        chart_qa=chart_qa(
            llm,
            sizes.CANVAS,
            tokenizer=lambda checkpoint: (WEIGHTS / TOKENIZER).read_text(encoding="utf-8"),
            synthetic_tokenizer=None,
            prompt_tokens=sizes.PROMPT_TOKENS,
            stop_token=sizes.STOP,
        ),
        resized=lambda size: resized(size, tiny_model, llm),
    )


MODELS: Final = (published_model(FULL_LLM), tiny_model(sizes.LANGUAGE_MODEL))
