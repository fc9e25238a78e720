"""From what the user names to what is exported: a registry model, `FILE.py:FUNC`, or a module in hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import torch

from tm_export.exporters.errors import UsageError
from tm_export.exporters.source.model_source import ComponentSource, HostSource, ModelSource
from tm_export.exporters.source.module_source import describe, source_of_module
from tm_export.exporters.source.user_function import call_user_function
from tm_export.exporters.weights.fake_module import fake_module
from tm_export.exporters.weights.readers import CheckpointWeights
from tm_export.models.checkpoints.checkpoint import CheckpointError
from tm_export.models.spec.model_size import ModelSize, SizeRefused
from tm_export.models.spec.registry import ComponentSpec, ModelSpec, UnknownModel, WeightsOrigin, find_model
from tm_export.runtime.apps.charts.contract import ChartQa
from tm_export.runtime.apps.videos.contract import TextToVideo

OWN_SIZE: Final = ModelSize()

TOKENIZER: Final = "host/tokenizer.json"
"""Where a bundle has the tokenizer of a model that takes prompts."""


def source_of(
    model: str,
    seed: int,
    checkpoint: Path | None = None,
    components: Sequence[str] = (),
    size: ModelSize = OWN_SIZE,
) -> ModelSource:
    """The source of what `-m MODEL` names.

    Args:
        model: a name in the registry, or `FILE.py:FUNC`, where `FUNC()` returns `(module, example_inputs)` as
            `source_of_module` takes them.
        seed: for a registry model's example inputs, and for what `FUNC` draws.
        checkpoint: a registry model's weights, a file or a folder.
        components: those of the model that are wanted; all if none is named.
        size: that a registry model is to be of.

    Raises:
        UsageError: there is no such thing, or it does not give what it should. Of a checkpoint only the headers
            are read here; a damaged tensor is found when its block is emitted.
    """
    if model.endswith((".pt2", ".pt", ".pth")):
        raise UsageError(
            f"{model} is opened by unpickling, which may run code, and has no example inputs: load it in a function of "
            "your own, which returns (torch.export.load(FILE), example_inputs), and give that as FILE.py:FUNC"
        )
    if ":" not in model and not model.endswith(".py"):
        return _source_of_registry(model, seed, checkpoint, components, size)
    if size != OWN_SIZE:
        raise UsageError(f"{size} is for registry models: let {model} itself be of that size")
    if checkpoint is not None:
        raise UsageError(f"--checkpoint is for registry models: let {model} itself load {checkpoint}")
    file, _, function = model.rpartition(":") if ":" in model else (model, "", "")
    torch.manual_seed(seed)
    returned = call_user_function(Path(file), function)
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise UsageError(
            f"what {model} returned is {describe(returned)}: return (module, example_inputs), an nn.Module "
            "(or a dict of them by variant) and a tensor, a tuple or a dict of tensors"
        )
    modules, example_inputs = returned
    source = source_of_module(modules, example_inputs, f"{Path(file).stem}-{function}")
    _chosen(model, source.components, components)
    return source


_Named = TypeVar("_Named", ComponentSpec, ComponentSource)


def _chosen(model: str, components: tuple[_Named, ...], names: Sequence[str]) -> tuple[_Named, ...]:
    known = [component.name for component in components]
    for name in names:
        if name not in known:
            raise UsageError(f"model {model!r} has no component {name!r}: choose one of {', '.join(known)}")
    return tuple(component for component in components if not names or component.name in names)


def _source_of_registry(
    model: str, seed: int, checkpoint: Path | None, components: Sequence[str], size: ModelSize
) -> ModelSource:
    try:
        spec = find_model(model)
    except UnknownModel as error:
        raise UsageError(f"{error}; or give your own as FILE.py:FUNC") from error
    if size != OWN_SIZE:
        spec = _resized(spec, size)
    chosen = _chosen(model, spec.components, components)
    for component in chosen:
        if component.weights == "checkpoint" and checkpoint is None:
            raise UsageError(
                f"model {model!r} has no weights of its own for its {component.name}: give them with "
                "--checkpoint, or choose a model that has (see --list)"
            )
    twin = {} if spec.twin is None else {component.name: component for component in find_model(spec.twin).components}
    return ModelSource(
        name=spec.name,
        components=tuple(
            _with_twin(_registry_component(component, seed, checkpoint), spec.twin, twin.get(component.name), seed)
            for component in chosen
        ),
        weights=_origin(chosen, checkpoint),
        host=_host(spec, checkpoint) if chosen == spec.components else None,
    )


def _resized(spec: ModelSpec, size: ModelSize) -> ModelSpec:
    if spec.resized is None:
        raise UsageError(f"model {spec.name!r} has one size alone: leave out {size}")
    try:
        return spec.resized(size)
    except SizeRefused as error:
        raise UsageError(str(error)) from error


def _host(spec: ModelSpec, checkpoint: Path | None) -> HostSource | None:
    described = spec.text_to_video or spec.chart_qa
    if described is None:
        return None
    values = {field.name: getattr(described, field.name) for field in fields(described)}
    del values["synthetic_tokenizer"]
    try:
        tokenizer = values.pop("tokenizer")(checkpoint)
    except CheckpointError as error:
        raise UsageError(f"the checkpoint of {spec.name}: {error}") from error
    contract = TextToVideo if spec.text_to_video is not None else ChartQa
    return HostSource(contract(files={"tokenizer": TOKENIZER}, **values), tokenizer)


def _origin(components: Sequence[ComponentSpec], checkpoint: Path | None) -> WeightsOrigin:
    """Where the weights of those components come from that have any."""
    origins = [component.weights for component in components if component.weights != "none"]
    if not origins:
        return "none"
    return "checkpoint" if checkpoint is not None else origins[0]


def _registry_component(spec: ComponentSpec, seed: int, checkpoint: Path | None) -> ComponentSource:
    component = ComponentSource(
        name=spec.name,
        variants=spec.variants,
        example_inputs=spec.example_inputs(seed),
        input_names=spec.input_names,
        output_names=spec.output_names,
        needs_fp32=spec.needs_fp32,
        own_inputs={variant: inputs(seed) for variant, inputs in spec.own_inputs.items()},
        fresh_inputs={variant: spec.own_inputs.get(variant, spec.example_inputs) for variant in spec.variants},
    )
    for variant in spec.variants:
        count = len(component.inputs_of(variant))
        if count != len(spec.input_names):
            raise UsageError(
                f"variant {variant!r} of component {spec.name!r} is given {count} example inputs, and its "
                f"{len(spec.input_names)} inputs are {', '.join(spec.input_names)}: give all variants one for each name"
            )
    if checkpoint is None or spec.weights == "none":
        return component
    variants = {name: partial(fake_module, build) for name, build in spec.variants.items()}
    try:
        weights = spec.weights_in(checkpoint, next(iter(variants.values()))())
    except CheckpointError as error:
        raise UsageError(f"the checkpoint of {spec.name}: {error}") from error
    return replace(component, variants=variants, weights=CheckpointWeights(checkpoint, weights))


def _with_twin(component: ComponentSource, model: str | None, twin: ComponentSpec | None, seed: int) -> ComponentSource:
    """The component, and where its weights stay on disk the same one of a model that fits into memory."""
    if component.weights is None or model is None or twin is None:
        return component
    return replace(component, twin=(model, _registry_component(twin, seed, None)))
