"""The compiler as functions: `export` for a module in hand, `export_source` for all that can be named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from tm_export.exporters.bundle.bundle import Bundle, write_bundle
from tm_export.exporters.compile import compile_model
from tm_export.exporters.errors import UsageError
from tm_export.exporters.options import (
    Backend,
    Effort,
    ExportOptions,
    Extent,
    MergeLowering,
    Precision,
    capacities_of,
    parse_block_budget,
)
from tm_export.exporters.record.progress import Progress, SilentProgress
from tm_export.exporters.source.model_source import ModelSource
from tm_export.exporters.source.module_source import Modules, source_of_module
from tm_export.exporters.source.named import source_of
from tm_export.exporters.targets.base import find_target
from tm_export.models.spec.model_size import ModelSize

__all__ = ["Bundle", "export", "export_source"]


def export(
    module: Modules | str,
    example_inputs: Tensor | Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    target: str = "onnx",
    out: str | Path = "out",
    precision: Precision | None = None,
    backend: Backend = "xnnpack",
    merge_lowering: MergeLowering = "auto",
    name: str | None = None,
    checkpoint: str | Path | None = None,
    frames: int | None = None,
    frame_size: tuple[int, int] | None = None,
    max_tokens: int | None = None,
    seed: int = 0,
    block_budget: int | str | Mapping[str, int | str | None] | None = None,
    weights: Precision | None = None,
    capacities: int | Mapping[str, int] | None = None,
    jobs: int = 1,
    verify: Extent = "all",
    resume: bool = True,
    force: bool = False,
) -> Bundle:
    """Compile a model for a target, and verify it against PyTorch.

    Args:
        module: a module or `torch.export` program, a dict of variants by name, a registry model's name, or
            `FILE.py:FUNC`.
        example_inputs: a tensor, or a tuple of what `forward` takes, or a dict of it by name; left out for a model
            that is named.
        target: `coreml`, `onnx` or `executorch`.
        out: the bundle goes to `<out>/<name>-<target>/`.
        precision: `fp32` or `fp16`; None is the target's own default.
        backend: ExecuTorch's: `xnnpack`, `coreml` or `portable`.
        merge_lowering: the form that merges take: `auto` is the cheapest that the target has.
        name: what the model is called; the module's class in lower case unless given.
        checkpoint: the weights of a registry model.
        frames: of the videos that a registry model makes; its own number unless given.
        frame_size: height and width of such videos, in pixels.
        max_tokens: of picture, prompt and answer together, for a registry model that answers questions.
        seed: for random choices inside the model.
        block_budget: the most bytes that a block may take, its weights and activations together, as a number or
            such as "200MB"; None gives one block. A dict has one for each component that it names.
        weights: what weights are stored in, the precision unless given.
        capacities: the most tokens that a selection by a mask, `x[mask]`, may choose; a dict has one for each line
            that it names, such as `{"my_model.py:18": 48}`.
        jobs: how many conversions may run at a time.
        verify: `all` blocks and all of them together, or one block of each program that was `converted`.
        resume: go on where an interrupted export of the same stopped.
        force: replace a folder that is no bundle.

    Raises:
        ExportError: the subclass and its `exit_code` say which kind of thing went wrong.
    """
    by_component = block_budget if isinstance(block_budget, Mapping) else {}
    budgets = tuple((component, parse_block_budget(budget)) for component, budget in by_component.items())
    budget = None if isinstance(block_budget, Mapping) else parse_block_budget(block_budget)
    options = ExportOptions(
        precision, backend, merge_lowering, seed, budget, weights, budgets, capacities_of(capacities)
    )
    effort = Effort(jobs, verify, resume)
    if isinstance(module, str):
        if example_inputs is not None:
            raise UsageError(f"model {module!r} brings its own example inputs: leave them out")
        weights_at = Path(checkpoint) if checkpoint is not None else None
        source = source_of(module, seed, weights_at, size=ModelSize(frames, frame_size, max_tokens))
        source = replace(source, name=name) if name is not None else source
    else:
        if checkpoint is not None:
            raise UsageError(f"checkpoint {checkpoint} is for registry models: load it into the module")
        if (frames, frame_size, max_tokens) != (None, None, None):
            raise UsageError(
                "frames, frame_size and max_tokens are for registry models: let the module be of that size"
            )
        source = source_of_module(module, example_inputs, name or _class_name(module))
    return export_source(source, target, options, Path(out), effort=effort, force=force)


def export_source(
    source: ModelSource,
    target: str,
    options: ExportOptions,
    out: Path,
    *,
    effort: Effort | None = None,
    force: bool = False,
    max_regions: int | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Compile a source for a target into a bundle under `out`; silent unless given a `progress`.

    Raises:
        ExportError: see `write_bundle` and `compile_model`.
    """
    chosen = find_target(target)
    report = progress or SilentProgress()
    work = effort or Effort()
    return write_bundle(
        out,
        source,
        chosen.name,
        lambda staging: compile_model(source, chosen, options, work, staging, report),
        force=force,
        resume=work.resume,
        max_regions=max_regions,
    )


def _class_name(module: Modules) -> str:
    first = next(iter(module.values()), None) if isinstance(module, Mapping) else module
    return type(first).__name__.lower()
