"""What is exported: a model as components, each with the modules of its variants and inputs to run them on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from tm_export.exporters.weights import WeightReader
from tm_export.runtime.manifest import TextToVideo


@dataclass(frozen=True)
class ComponentSource:
    """One network: a builder for each variant (over the same weights), and real inputs to verify it on.

    With `weights`, the builders give modules without values, and weights are read from there block by block. One that
    `needs_fp32` is computed so whatever the precision of the others.
    """

    name: str
    variants: Mapping[str, Callable[[], nn.Module]]
    example_inputs: tuple[Tensor, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...] | None = None
    """None: `output_0`, `output_1`, …, as many as the module returns."""
    weights: WeightReader | None = None
    needs_fp32: bool = False


@dataclass(frozen=True)
class PromptSource:
    """How the whole of a model makes a video from a prompt, and the text of the tokenizer's file."""

    contract: TextToVideo
    tokenizer: str


@dataclass(frozen=True)
class ModelSource:
    """A model to export, by whatever way it was named.

    `prompts` is there if it makes videos from prompts, and all of its components are exported.
    """

    name: str
    components: tuple[ComponentSource, ...]
    weights: Literal["seeded", "trained", "checkpoint", "module", "none"]
    prompts: PromptSource | None = None
