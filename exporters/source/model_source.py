"""What is exported: a model as components, each with the modules of its variants and inputs to run them on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from tm_export.exporters.weights.readers import WeightReader
from tm_export.runtime.apps.contract import HostContract


@dataclass(frozen=True)
class StateName:
    """An input, and the output that holds what it is in the next call."""

    input: str
    output: str


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
    own_inputs: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)
    """Inputs of variants that take other shapes than the rest."""

    fresh_inputs: Mapping[str, Callable[[int], tuple[Tensor, ...]]] = field(default_factory=dict)
    """By variant, from a seed to further inputs like its example inputs; drawn from those for a variant without."""

    state: tuple[StateName, ...] = ()
    """What a call leaves for the next one: buffers that the module writes, and inputs that it writes."""

    twin: tuple[str, ComponentSource] | None = None
    """For a component with `weights`: a model of the same classes that fits into memory, and this component of it."""

    def inputs_of(self, variant: str) -> tuple[Tensor, ...]:
        """The inputs that a variant is captured and verified on."""
        return self.own_inputs.get(variant, self.example_inputs)


@dataclass(frozen=True)
class HostSource:
    """How a host makes a video or an answer with the whole of a model, and the text of the tokenizer's file."""

    contract: HostContract
    tokenizer: str


@dataclass(frozen=True)
class ModelSource:
    """A model to export, by whatever way it was named.

    `host` is there if it makes videos or answers from text, and all of its components are exported.
    """

    name: str
    components: tuple[ComponentSource, ...]
    weights: Literal["seeded", "trained", "checkpoint", "module", "none"]
    host: HostSource | None = None
    notes: tuple[str, ...] = ()
    """What the user is to be told before the export."""
