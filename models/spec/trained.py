"""Networks with trained weights that come with this package."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import torch
from torch import nn

from tm_export.models.checkpoints.checkpoint import load_weights
from tm_export.models.spec.registry import ComponentSpec

LOG: Final = "training_log.jsonl"

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def trained_component(component: ComponentSpec, weights: Path) -> ComponentSpec:
    """Return the component with weights from a folder, in place of a checkpoint's; as it is if it has none."""
    if component.weights == "none":
        return component
    path = weights / f"{component.name}.safetensors"
    variants = {name: partial(trained, build, path) for name, build in component.variants.items()}
    return replace(component, variants=variants, weights="trained", published=None)


def trained(build: Callable[[], ModuleT], path: Path) -> ModuleT:
    """Return `build()` with the weights of a file; raises CheckpointError if they do not fit.

    Under `torch.device("meta")` it is built there, and stays without values.
    """
    stays_on_meta = torch.empty(0).is_meta
    with torch.device("meta"):
        module = build()
    if not stays_on_meta:
        load_weights(module, path)
    return module
