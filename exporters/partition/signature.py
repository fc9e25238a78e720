"""The public names of a component's inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.source.model_source import ComponentSource
from tm_export.exporters.targets.base import Signature


def signature_of(component: ComponentSource, outputs: Sequence[Tensor]) -> Signature:
    """Public names of inputs and outputs; raises `ConversionRefused` if there are not as many as tensors."""
    names = component.output_names or tuple(f"output_{i}" for i in range(len(outputs)))
    if len(names) != len(outputs):
        raise ConversionRefused(
            f"component {component.name!r} names {len(names)} outputs ({', '.join(names)}) "
            f"and returns {len(outputs)}: name each tensor that forward returns"
        )
    return Signature(component.input_names, names)
