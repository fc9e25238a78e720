"""Describe what was compiled: in the manifest's terms, in the merge report's, and as golden files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.numpy import save_file
from torch import Tensor

from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.graph.macs import count_macs
from tm_export.exporters.lowering.choose import choose
from tm_export.exporters.merging.raise_merges import Raised
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.record.records import MergeSite
from tm_export.exporters.reference.cases import Case
from tm_export.exporters.source.model_source import ComponentSource
from tm_export.exporters.targets.base import Signature, Target
from tm_export.runtime import manifest
from tm_export.runtime.engines.base import Array


def signature_of(component: ComponentSource, outputs: Sequence[Tensor]) -> Signature:
    """Public names of inputs and outputs; raises `ConversionRefused` if there are not as many as tensors."""
    names = component.output_names or tuple(f"output_{i}" for i in range(len(outputs)))
    if len(names) != len(outputs):
        raise ConversionRefused(
            f"component {component.name!r} names {len(names)} outputs ({', '.join(names)}) "
            f"and returns {len(outputs)}: name each tensor that forward returns"
        )
    return Signature(component.input_names, names)


def tensor_spec(name: str, tensor: Tensor, target: Target) -> manifest.TensorSpec:
    """Name, and the dtype and shape that the target's artifacts have it in."""
    shape = (1,) * (target.least_rank - tensor.dim()) + tuple(tensor.shape)
    return manifest.TensorSpec.model_validate({"name": name, "dtype": target.dtype(tensor.dtype), "shape": shape})


def as_declared(spec: manifest.TensorSpec, tensor: Tensor) -> Array:
    """The tensor as the manifest has it; raises `ConversionRefused` if it holds an integer that does not fit there."""
    plain = tensor.detach().contiguous()
    array: Array = (plain.float() if plain.dtype is torch.bfloat16 else plain).numpy()  # NumPy has no bfloat16
    made = array.astype(spec.dtype).reshape(spec.shape)
    if array.dtype.kind in "iu" and made.dtype.kind in "iu" and (made.reshape(array.shape) != array).any():
        beyond = array[made.reshape(array.shape) != array].flat[0]
        raise ConversionRefused(
            f"{spec.name!r} holds {beyond}, and this target's artifacts have integers of {8 * made.dtype.itemsize} "
            "bits: keep values within them, or export to another target"
        )
    return made


def tensor_specs(names: Sequence[str], tensors: Sequence[Tensor], target: Target) -> tuple[manifest.TensorSpec, ...]:
    """Names, dtypes and shapes."""
    return tuple(tensor_spec(name, tensor, target) for name, tensor in zip(names, tensors, strict=True))


def merge_sites(
    component: str, variant: str, raised: Raised, target: Target, options: ExportOptions
) -> tuple[MergeSite, ...]:
    """The merge report's rows."""
    half = target.precision(options) == "fp16"
    unmerged = count_macs(raised.program) + sum(site.macs_saved for site in raised.sites)
    rows = []
    for site in raised.sites:
        choice = choose(site.work, target.costs(options), options, half=half) if site.has_choice else None
        rows.append(
            MergeSite(
                component=component,
                variant=variant,
                source=site.source,
                kind=site.kind,
                tokens_before=site.tokens_before,
                tokens_after=site.tokens_after,
                form=choice.form if choice else site.own_form,
                reason=choice.reason if choice else "written so: one form for every target",
                costs_ns=choice.costs_ns if choice else {},
                macs_saved=site.macs_saved,
                share_saved=site.macs_saved / unmerged if unmerged else 0.0,
            )
        )
    return tuple(rows)


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
