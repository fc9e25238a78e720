"""What must hold for a program of the rules: every stage computes what its own text does in PyTorch.

The text is run as it stands, never a stage of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.export import ExportedProgram

from tests.support.rule_programs import RuleProgram
from tm_export.exporters.api import export
from tm_export.exporters.capture.capture import capture
from tm_export.exporters.capture.normalise import normalise
from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.lowering.choose import lower_merges
from tm_export.exporters.lowering.cost import COREML, ONNX_CPU, PORTABLE, XNNPACK, CostModel
from tm_export.exporters.merging.raise_merges import raise_merges
from tm_export.exporters.options import ExportOptions, MergeLowering
from tm_export.exporters.reference.replay import replay

COSTS: Final[tuple[CostModel, ...]] = (ONNX_CPU, XNNPACK, PORTABLE, COREML)
SEEDS: Final = (0, 1)
"""A program is captured with the inputs of the first, and run on those of all."""

NOT_RUN: Final = (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError)


class Refused(Exception):
    """PyTorch itself does not run the program."""


def expected_of(program: RuleProgram) -> tuple[tuple[Tensor, ...], ...]:
    """What the program computes on each seed's inputs; raises `Refused` where PyTorch raises, or nothing is read."""
    if not program.inputs:
        raise Refused("no input is read")
    try:
        with torch.no_grad():
            results = [program.module()(*program.draw(seed)) for seed in SEEDS]
    except NOT_RUN as error:
        raise Refused(str(error)) from error
    return tuple((result,) if isinstance(result, Tensor) else tuple(result) for result in results)


def differences(program: RuleProgram) -> Iterator[str]:
    """Where a stage computes something else: captured, raised, and lowered in every form of every target."""
    expected = expected_of(program)
    captured = capture(program.module(), program.draw(SEEDS[0]))
    raised = raise_merges(normalise(captured), seed=0).program
    for name, stage in {"captured": lambda: captured, "raised": lambda: raised, **_lowered(raised)}.items():
        made = stage()
        for seed, wanted in zip(SEEDS, expected, strict=True):
            yield from _differing(name, replay(made, program.draw(seed)).outputs, wanted)


def exported_differences(program: RuleProgram, target: str, folder: Path) -> Iterator[str]:
    """Where an artifact computes something else, on the target's own engine; nothing where the target refuses."""
    expected = expected_of(program)
    try:
        bundle = export(
            program.module(), program.draw(SEEDS[0]), target=target, out=folder, precision="fp32", force=True
        )
    except ConversionRefused:
        return
    with bundle.open() as session:
        specs = bundle.manifest.components[0].variants[0].inputs
        for seed, wanted in zip(SEEDS, expected, strict=True):
            given = {s.name: x.numpy().astype(s.dtype) for s, x in zip(specs, program.draw(seed), strict=True)}
            got = [torch.from_numpy(array) for array in session.run(given).values()]
            yield from _differing(target, [a.to(b.dtype) for a, b in zip(got, wanted, strict=True)], wanted)


def _lowered(raised: ExportedProgram) -> Mapping[str, Callable[[], ExportedProgram]]:
    """The program lowered, by the name of each form that any target has."""

    def lowering(costs: CostModel, form: MergeLowering) -> Callable[[], ExportedProgram]:
        return lambda: lower_merges(raised, costs, ExportOptions(merge_lowering=form), half=False)

    kinds = {type(form): (costs, name) for costs in COSTS for name, form in costs.forms.items()}
    return {
        f"{name} of {costs.name}": lowering(costs, name)  # type: ignore[arg-type]
        for costs, name in kinds.values()
    }


def _differing(stage: str, got: tuple[Tensor, ...] | list[Tensor], expected: tuple[Tensor, ...]) -> Iterator[str]:
    for position, (a, b) in enumerate(zip(got, expected, strict=True)):
        if not same(a, b):
            yield f"{stage}: output {position} is {a.dtype} {a.tolist()}, not {b.dtype} {b.tolist()}"


def same(got: Tensor, expected: Tensor) -> bool:
    """Integers and infinities exactly, floats but for rounding."""
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return False
    return torch.allclose(got, expected, rtol=1e-5, atol=1e-5, equal_nan=True)
