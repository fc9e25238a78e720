"""The registry of models: what can be exported by name.

A package adds its own models without a change here, by an entry point in the group `tm_export.models`
that names a tuple of `ModelSpec`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from tm_export.models.checkpoints import checkpoint
from tm_export.models.checkpoints.checkpoint import Weights
from tm_export.models.spec.charts import ChartQaSpec
from tm_export.models.spec.model_size import ModelSize
from tm_export.models.spec.videos import TextToVideoSpec

ENTRY_POINT_GROUP = "tm_export.models"

WeightsOrigin = Literal["seeded", "trained", "checkpoint", "none"]


class UnknownModel(ValueError):
    """No model of this name is in the registry."""


class BrokenModelPlugin(ValueError):
    """An entry point in the group `tm_export.models` does not lead to a tuple of `ModelSpec`."""


@dataclass(frozen=True)
class PublishedCheckpoint:
    """Where a component's weights come from, and how they are stored there.

    Attributes:
        name: the repository that publishes them.
        folder: where they stand in the folder that is given as the model's checkpoint; two components may
            share one. Empty if that folder, or file, is the component's own.
        dtype: of the published tensors.
        prefix: what the published keys of this component begin with, before the module's own.
    """

    name: str
    folder: str
    dtype: torch.dtype
    prefix: str = ""


@dataclass(frozen=True)
class ComponentSpec:
    """One network of a model.

    Attributes:
        name: such as `denoiser` or `vision_tower`.
        variants: a builder for each variant by name. All variants have the same state-dict keys and shapes.
            Builders also work under `torch.device("meta")`.
        example_inputs: from a seed to inputs of `forward`, in the order of `input_names`.
        input_names: a name for each input.
        output_names: a name for each output.
        weights: where a built module's weights come from: random but fixed by a seed, trained by us,
            nowhere until a checkpoint is loaded; or `none`, for a module without weights.
        open_weights: open a checkpoint of this component, a file or a folder, for a built module; the plain
            one where the published keys are the module's own. Call `weights_in` or `load_weights` instead.
        published: the public checkpoint, if there is one.
        needs_fp32: whether it must be computed in fp32, because fp16 has not the range or the precision for it.
        own_inputs: `example_inputs` of a variant that takes other shapes than the rest.
    """

    name: str
    variants: Mapping[str, Callable[[], nn.Module]]
    example_inputs: Callable[[int], tuple[Tensor, ...]]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    weights: WeightsOrigin
    open_weights: Callable[[nn.Module, Path], Weights] = checkpoint.open_weights
    published: PublishedCheckpoint | None = None
    needs_fp32: bool = False
    own_inputs: Mapping[str, Callable[[int], tuple[Tensor, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise `ValueError` for names that no artifact can have: one of two tensors, or inputs of no variant."""
        names = (*self.input_names, *self.output_names)
        twice = [name for i, name in enumerate(names) if name in names[:i]]
        if twice:
            raise ValueError(
                f"component {self.name!r} has two tensors called {twice[0]!r}: give each input and output a name "
                f"of its own, such as {twice[0]}_out for what is written back"
            )
        unknown = [name for name in self.own_inputs if name not in self.variants]
        if unknown:
            raise ValueError(
                f"component {self.name!r} has inputs for a variant {unknown[0]!r} that it has not: "
                f"choose one of {', '.join(self.variants)}"
            )

    def weights_in(self, path: Path, module: nn.Module) -> Weights:
        """Open the part of the model's checkpoint that is for this component, reading headers alone.

        Args:
            path: the model's checkpoint, a file or a folder.
            module: any variant, which may be on the meta device.

        Raises:
            CheckpointError: the checkpoint cannot be read, or does not fit the module.
        """
        if self.published is None or not self.published.folder:
            return self.open_weights(module, path)
        folder = path / self.published.folder
        if not folder.is_dir():
            raise checkpoint.CheckpointNotFound(
                f"{path} has no folder {self.published.folder!r}, in which the {self.name} stands; "
                f"put the files of {self.published.name} there"
            )
        return self.open_weights(module, folder)

    def load_weights(self, module: nn.Module, path: Path) -> None:
        """Load this component's part of the model's checkpoint into a built module; see `assign_weights`.

        Raises:
            CheckpointError: the checkpoint cannot be read, or does not fit; the module is then as it was.
        """
        checkpoint.assign_weights(module, self.weights_in(path, module))


@dataclass(frozen=True)
class ModelSpec:
    """A model.

    Attributes:
        name: by which it is exported.
        description: one line on what it is.
        components: its networks.
        text_to_video: how a host makes a video with all of them, for a model that makes any.
        chart_qa: how a host answers questions about charts with all of them, for a model that does.
        resized: the same model in another size; raises SizeRefused. None for a model that is for one size.
        twin: a model of the same classes that has weights of its own and fits into memory: where this one's weights
            stay on disk, what is made of the classes is tried on that one.
    """

    name: str
    description: str
    components: tuple[ComponentSpec, ...]
    text_to_video: TextToVideoSpec | None = None
    chart_qa: ChartQaSpec | None = None
    resized: Callable[[ModelSize], ModelSpec] | None = None
    twin: str | None = None


def list_models() -> tuple[ModelSpec, ...]:
    """Return all models that installed packages offer, by name.

    Raises:
        BrokenModelPlugin: if an entry point cannot be loaded.
    """
    models: list[ModelSpec] = []
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            models.extend(entry_point.load())
        except Exception as error:
            raise BrokenModelPlugin(
                f"the models of entry point {entry_point.name!r} ({entry_point.value}) cannot be loaded: "
                f"{error}; repair or uninstall the package that brings it"
            ) from error
    return tuple(sorted(models, key=lambda model: model.name))


def find_model(name: str) -> ModelSpec:
    """Return the model of this name.

    Raises:
        UnknownModel: if there is none.
        BrokenModelPlugin: if an entry point cannot be loaded.
    """
    models = {model.name: model for model in list_models()}
    if name in models:
        return models[name]
    close = difflib.get_close_matches(name, models, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UnknownModel(f"unknown model {name!r}; {hint}known models: {', '.join(models)}")
