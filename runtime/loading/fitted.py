"""Values as a component variant takes them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tm_export.runtime.engines.base import Array
from tm_export.runtime.manifest import Manifest


def fitted(manifest: Manifest, component: str, variant: str, values: Mapping[str, object]) -> dict[str, Array]:
    """The values that a component variant takes, in the dtypes that it states (int32 in place of int64, for one)."""
    specs = manifest.component(component).variant(variant).inputs
    return {spec.name: np.asarray(values[spec.name], dtype=spec.dtype) for spec in specs if spec.name in values}
