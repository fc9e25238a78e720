"""The tensors that a component is measured with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from tm_export.runtime.engines.base import Array
from tm_export.runtime.manifest import BundleError, Manifest, TensorSpec


@dataclass(frozen=True)
class Inputs:
    """One array for each input of a component's variant, and where they came from."""

    arrays: dict[str, Array]
    source: Literal["golden", "generated"]


def inputs_for(bundle_dir: Path, manifest: Manifest, component: str, variant: str) -> Inputs:
    """The golden inputs of a component's variant if the bundle has them, else generated ones.

    Generated floats are standard normal, from one seed; integers and booleans are 0, which every table holds.

    Raises:
        BundleError: the golden file cannot be read.
    """
    for golden in manifest.golden:
        if (golden.component, golden.variant) == (component, variant):
            path = bundle_dir / golden.inputs
            try:
                return Inputs(load_file(path), "golden")
            except (OSError, SafetensorError) as error:
                raise BundleError(f"{path} cannot be read ({error}); export again") from None
    rng = np.random.default_rng(0)
    specs = manifest.component(component).variant(variant).inputs
    return Inputs({spec.name: _generate(rng, spec) for spec in specs}, "generated")


def _generate(rng: np.random.Generator, spec: TensorSpec) -> Array:
    if spec.dtype.startswith("float"):
        return rng.standard_normal(spec.shape).astype(spec.dtype)
    return np.zeros(spec.shape, spec.dtype)
