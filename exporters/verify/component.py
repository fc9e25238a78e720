"""Verify a component: every block on its own, on what PyTorch computes up to it, and all of them together."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from torch import Tensor
from torch.export import ExportedProgram

from tm_export.exporters.convert import Converted, Workshop, lower, weights_of
from tm_export.exporters.describe import write_golden
from tm_export.exporters.options import ExportOptions, Extent
from tm_export.exporters.prepare import Prepared
from tm_export.exporters.progress import Progress, counted
from tm_export.exporters.records import ParityRecord, PlacementRecord, StageRecord
from tm_export.exporters.rewrite import expose_decisions
from tm_export.exporters.stopwatch import Stopwatch
from tm_export.exporters.targets.base import Target
from tm_export.exporters.tensors import with_tensors
from tm_export.exporters.verify.artifact import (
    Artifact,
    Probe,
    check_artifact,
    check_rewrite,
    emit_probe,
    run_artifact,
)
from tm_export.exporters.verify.decisions import Agreement, compare_decision
from tm_export.exporters.verify.gates import gate_for
from tm_export.exporters.verify.parity import Subject, records_of
from tm_export.exporters.verify.replay import reference_of, replay
from tm_export.runtime import manifest
from tm_export.runtime.engines import engines_for
from tm_export.runtime.engines.base import Engine

COMPOSED: Final = "all"
"""What records call the blocks together."""


@dataclass(frozen=True)
class Verified:
    """What verifying a component found, and the golden runs that it left in the bundle."""

    parity: tuple[ParityRecord, ...]
    placement: tuple[PlacementRecord, ...]
    golden: tuple[manifest.Golden, ...]
    stages: tuple[StageRecord, ...]


def verify_component(
    prepared: Prepared,
    converted: Converted,
    component: manifest.Component,
    target: Target,
    options: ExportOptions,
    workshop: Workshop,
    extent: Extent,
    report: Progress,
) -> Verified:
    """Run every variant in PyTorch, block by block, and the artifacts on the same inputs."""
    parity: list[ParityRecord] = []
    placement: list[PlacementRecord] = []
    golden: list[manifest.Golden] = []
    stages: list[StageRecord] = []
    for variant in component.variants:
        inputs = prepared.source.inputs_of(variant.name)
        watch = Stopwatch(component.name, variant.name, report)
        with watch.stage("verify"), tempfile.TemporaryDirectory(dir=workshop.scratch) as folder:
            check = _Check(
                prepared, converted, component, variant, target, options, workshop.bundle, Path(folder), report
            )
            if extent == "all":
                records, outputs = check.all_blocks(inputs)
                golden.append(
                    write_golden(workshop.bundle, component.name, variant.name, prepared.signature, inputs, outputs)
                )
            else:
                records = check.converted_blocks(inputs)
            parity += records
        stages += watch.records
        placement += _placement(component, variant.name, target, workshop.bundle)
    return Verified(tuple(parity), tuple(placement), tuple(golden), tuple(stages))


@dataclass(frozen=True)
class _Check:
    """Verifies one variant of a component."""

    prepared: Prepared
    converted: Converted
    component: manifest.Component
    variant: manifest.ComponentVariant
    target: Target
    options: ExportOptions
    bundle: Path
    scratch: Path
    report: Progress

    def all_blocks(self, inputs: Sequence[Tensor]) -> tuple[list[ParityRecord], list[Tensor]]:
        """Every block on PyTorch's own values, then all together; also returns PyTorch's outputs."""
        values = dict(zip(self.prepared.signature.inputs, inputs, strict=True))
        probes: list[Probe | None] = []
        records: list[ParityRecord] = []
        for i in counted(range(len(self.component.blocks)), f"{self.component.name}: blocks verified", self.report):
            found, probe = self._check(i, values)
            records += found
            probes.append(probe)
            values = self._still_read(values, i)
        outputs = [values[spec.name] for spec in self.variant.outputs]
        if len(self.component.blocks) > 1:
            for engine in engines_for(self.target.name):
                records += self._composed(engine, inputs, probes)
        return records, outputs

    def converted_blocks(self, inputs: Sequence[Tensor]) -> list[ParityRecord]:
        """The first block of each program.

        What blocks in between would compute is not computed: the latest value of the same shape stands in for it.
        """
        values = dict(zip(self.prepared.signature.inputs, inputs, strict=True))
        records: list[ParityRecord] = []
        seen: set[str] = set()
        for i, block in enumerate(self.prepared.blocks):
            if block.structure in seen:
                continue
            seen.add(block.structure)
            function = self._function(i)
            reads = self.variant.calls[i].reads
            for name, spec in zip(reads, function.inputs, strict=True):
                if name not in values:
                    values[name] = next(v for v in reversed(values.values()) if tuple(v.shape) == spec.shape)
            found, _ = self._check(i, values)
            records += found
        return records

    def _check(self, i: int, values: dict[str, Tensor]) -> tuple[list[ParityRecord], Probe | None]:
        """Compare one block with PyTorch, whose outputs are added to the values."""
        piece, function = self.prepared.blocks[i].pieces[self.variant.name], self._function(i)
        inputs = [values[name] for name in piece.reads]
        reference = reference_of(lambda: self._program(i), inputs)
        values |= dict(zip(piece.writes, map(Tensor.contiguous, reference.run.outputs), strict=True))
        artifact = Artifact(
            self.component.name,
            self.component.blocks[i].name,
            function,
            self.bundle / function.artifact,
            reference,
            self._probe(i, inputs) if reference.run.decisions else None,
        )
        records = check_rewrite(
            artifact, self._lowered(i) if artifact.probe is None else artifact.probe.program, inputs
        )
        return records + check_artifact(artifact, inputs, self.target, self.options), artifact.probe

    def _probe(self, i: int, inputs: Sequence[Tensor]) -> Probe:
        """The block's program with its decisions as further outputs, converted."""
        exposed = lower(expose_decisions(self._program(i)), self.target, self.options).program
        return emit_probe(exposed, self._function(i), inputs, self.target, self.options, self.scratch)

    def _lowered(self, i: int) -> ExportedProgram:
        """The program as it was converted; lowered anew if that was in another try."""
        known = self.converted.legalized.get(self.prepared.blocks[i].structure)
        if known is None:
            return lower(self._program(i), self.target, self.options).program
        legalized = known[self.variant.name]
        weights = weights_of(self.prepared, self.prepared.blocks[i])
        return with_tensors(legalized.program, legalized.recipe.follow(weights))

    def _composed(self, engine: Engine, inputs: Sequence[Tensor], probes: Sequence[Probe | None]) -> list[ParityRecord]:
        """Run all blocks on the engine, each on what it made of those before, and compare the outputs.

        PyTorch runs beside it, with the engine's decisions.
        """
        gate = gate_for(self.target.precision(self.options))
        made = dict(zip(self.prepared.signature.inputs, inputs, strict=True))
        wanted = dict(made)
        agreement = Agreement(0, 0, 0)
        for i, (call, probe) in enumerate(zip(self.variant.calls, probes, strict=True)):
            function = self._function(i)
            given = [made[name] for name in call.reads]
            decided = None
            if probe is not None:
                decided = run_artifact(engine, probe.path, probe.variant, given)[len(function.outputs) :]
            reference = replay(self._program(i), [wanted[name] for name in call.reads], forced=decided)
            for decision, index in zip(reference.decisions, decided or (), strict=True):
                agreement += compare_decision(decision, index, gate.tie_margin)
            results = run_artifact(engine, self.bundle / function.artifact, function, given)
            made |= dict(zip(call.writes, results, strict=True))
            wanted |= dict(zip(call.writes, map(Tensor.contiguous, reference.outputs), strict=True))
            made, wanted = self._still_read(made, i), self._still_read(wanted, i)
        names = tuple(spec.name for spec in self.variant.outputs)
        subject = Subject(self.component.name, COMPOSED, self.variant.name, engine.name, names)
        return records_of(subject, [made[name] for name in names], [wanted[name] for name in names], agreement, gate)

    def _function(self, i: int) -> manifest.Variant:
        block = self.component.blocks[i]
        return next(each for each in block.variants if each.name == self.variant.name)

    def _program(self, i: int) -> ExportedProgram:
        block = self.prepared.blocks[i]
        return with_tensors(block.pieces[self.variant.name].program, weights_of(self.prepared, block))

    def _still_read(self, values: dict[str, Tensor], i: int) -> dict[str, Tensor]:
        """The values that calls after this one read, or that are returned."""
        wanted = {spec.name for spec in self.variant.outputs}
        wanted |= {name for call in self.variant.calls[i + 1 :] for name in call.reads}
        return {name: value for name, value in values.items() if name in wanted}


def _placement(component: manifest.Component, variant: str, target: Target, bundle: Path) -> Iterator[PlacementRecord]:
    for block in component.blocks:
        function = next(each for each in block.variants if each.name == variant)
        found = target.placement(bundle / function.artifact, function.function)
        yield PlacementRecord(component=component.name, block=block.name, variant=variant, **asdict(found))
