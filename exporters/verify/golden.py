"""Golden files: inputs and PyTorch's outputs, so that an app can test itself."""

from __future__ import annotations

from pathlib import Path

from safetensors.numpy import save_file

from tm_export.exporters.reference.cases import Case
from tm_export.exporters.targets.specs import as_declared
from tm_export.runtime import manifest


def write_golden(staging: Path, component: str, variant: manifest.ComponentVariant, case: Case) -> manifest.Golden:
    """Write inputs and PyTorch's outputs as the manifest has them, so that an app can test itself; name the files."""
    (staging / "golden").mkdir(exist_ok=True)
    paths = {}
    for kind, specs, tensors in (
        ("inputs", variant.inputs, case.inputs),
        ("outputs", variant.outputs, case.reference.run.outputs),
    ):
        paths[kind] = f"golden/{component}_{variant.name}_{kind}.safetensors"
        arrays = {spec.name: as_declared(spec, tensor) for spec, tensor in zip(specs, tensors, strict=True)}
        save_file(arrays, staging / paths[kind])
    return manifest.Golden(component=component, variant=variant.name, **paths)
