"""Verify a component: every block on its own, on what PyTorch computes up to it, and all of them together."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor
from torch.export import ExportedProgram

from tm_export.exporters.convert.convert import Converted, Workshop, lower, weights_of
from tm_export.exporters.graph.tensors import with_tensors
from tm_export.exporters.merging.expose import expose_decisions
from tm_export.exporters.merging.sites import decisions_of
from tm_export.exporters.options import ExportOptions, Extent
from tm_export.exporters.partition.prepare import Prepared
from tm_export.exporters.record.progress import Progress, counted
from tm_export.exporters.record.records import ParityRecord, PlacementRecord, StageRecord
from tm_export.exporters.record.stopwatch import Stopwatch
from tm_export.exporters.reference.captured_blocks import CapturedBlock, captured_block
from tm_export.exporters.reference.cases import EXAMPLE, RAISED, Case, reference_by
from tm_export.exporters.reference.eager import EagerRun, run_watched
from tm_export.exporters.reference.gates import Gate, gate_for
from tm_export.exporters.reference.parity import WHOLE, Subject, check_parity, records_of, with_decisions
from tm_export.exporters.reference.replay import Decision, Reference, Replay, reference_of, replay
from tm_export.exporters.targets.base import Target
from tm_export.exporters.verify.artifact import (
    Artifact,
    Probe,
    check_artifact,
    check_rewrite,
    emit_probe,
    run_artifact,
)
from tm_export.exporters.verify.golden import write_golden
from tm_export.runtime import manifest
from tm_export.runtime.engines import engines_to_verify
from tm_export.runtime.engines.base import Engine


@dataclass(frozen=True)
class Verified:
    """What verifying a component found, and the golden runs that it left in the bundle.

    `unheld` are, by variant, the blocks of a streamed model that the captured program has not.
    """

    parity: tuple[ParityRecord, ...]
    unheld: Mapping[str, tuple[str, ...]]
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
    unheld: dict[str, tuple[str, ...]] = {}
    placement: list[PlacementRecord] = []
    golden: list[manifest.Golden] = []
    stages: list[StageRecord] = []
    for variant in component.variants:
        watch = Stopwatch(component.name, variant.name, report)
        with watch.stage("verify"), tempfile.TemporaryDirectory(dir=workshop.scratch) as folder:
            check = _Check(
                prepared, converted, component, variant, target, options, workshop.bundle, Path(folder), report
            )
            if extent == "all":
                records, example = check.all_blocks()
                golden.append(write_golden(workshop.bundle, component.name, variant, example))
            else:
                records = check.converted_blocks()
            parity += records
            unheld[variant.name] = check.unheld(records)
        stages += watch.records
        placement += _placement(component, variant.name, target, workshop.bundle)
    return Verified(tuple(parity), unheld, tuple(placement), tuple(golden), tuple(stages))


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

    def all_blocks(self) -> tuple[list[ParityRecord], Case]:
        """Every artifact on every case; also returns the example inputs' one.

        A component of one block is held against the module itself. Of several, each block is held against the captured
        program, on that one's own values, and all of them together against the module.
        """
        cases = self._cases()
        if cases and len(self.component.blocks) == 1:
            records, _ = self._check(0, cases)
            return records, cases[0]
        records, probes, example = self._each_block()
        cases = cases or (example,)
        if len(self.component.blocks) > 1:
            for engine in engines_to_verify(self.target.name):
                records += self._composed(engine, cases, probes)
        return records, cases[0]

    def _each_block(self) -> tuple[list[ParityRecord], list[Probe | None], Case]:
        """Every block on what PyTorch computes up to it from the example inputs."""
        inputs = self._inputs()
        values = dict(zip(self.prepared.signature.inputs, inputs, strict=True))
        probes: list[Probe | None] = []
        records: list[ParityRecord] = []
        decisions: list[Decision] = []
        for i in counted(range(len(self.component.blocks)), f"{self.component.name}: blocks verified", self.report):
            case, found = self._block_case(i, values)
            records += found
            found, probe = self._check(i, [case])
            records += found
            probes.append(probe)
            decisions += case.reference.run.decisions
            values = self._still_read(values, i)
        run = Replay(tuple(values[spec.name] for spec in self.variant.outputs), tuple(decisions))
        return records, probes, Case(EXAMPLE, inputs, Reference(run, partial(self._by_blocks, inputs)))

    def _by_blocks(self, inputs: Sequence[Tensor], forced: Sequence[Tensor]) -> Replay:
        """The captured program with these decisions, block by block: no more weights in memory than one block's."""
        values = dict(zip(self.prepared.signature.inputs, inputs, strict=True))
        decisions: list[Decision] = []
        for i, block in enumerate(self.prepared.blocks):
            piece, program = block.pieces[self.variant.name], self._program(i)
            own = forced[len(decisions) : len(decisions) + len(decisions_of(program))]
            made = replay(program, [values[name] for name in piece.reads], own)
            decisions += made.decisions
            values |= dict(zip(piece.writes, map(Tensor.contiguous, made.outputs), strict=True))
            values = self._still_read(values, i)
        return Replay(tuple(values[spec.name] for spec in self.variant.outputs), tuple(decisions))

    def _cases(self) -> tuple[Case, ...]:
        return self.prepared.checks[self.variant.name].cases if self.prepared.checks else ()

    def _inputs(self) -> tuple[Tensor, ...]:
        return self.prepared.source.inputs_of(self.variant.name)

    def _gate(self) -> Gate:
        return gate_for(self.target.precision(self.options), self.prepared.coarsest)

    def _gate_in_pytorch(self) -> Gate:
        return gate_for("fp32", self.prepared.coarsest)

    def converted_blocks(self) -> list[ParityRecord]:
        """The first block of each program.

        What blocks in between would compute is not computed: the latest value of the same shape stands in for it.
        """
        values = dict(zip(self.prepared.signature.inputs, self._inputs(), strict=True))
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
            case, found = self._block_case(i, values)
            records += found
            found, _ = self._check(i, [case])
            records += found
        return records

    def _block_case(self, i: int, values: dict[str, Tensor]) -> tuple[Case, list[ParityRecord]]:
        """One block on these values, by PyTorch, whose outputs are added to them.

        Of a streamed model the captured program's block is the reference, and the raised one is held against it, if it
        decides. One that does not is held against it as it was lowered, which is another run less: `check_rewrite`.
        """
        piece = self.prepared.blocks[i].pieces[self.variant.name]
        inputs = tuple(values[name] for name in piece.reads)
        captured = self._captured_run(i, inputs)
        records: list[ParityRecord] = []
        if captured is None:
            reference = reference_of(lambda: self._program(i), inputs)
        elif not decisions_of(piece.program):
            reference = reference_by(captured, captured(), ())
        else:
            raised = replay(self._program(i), inputs)
            reference = reference_by(captured, captured(), raised.decisions)
            records = self._raised(i, reference, raised)
        values |= dict(zip(piece.writes, map(Tensor.contiguous, reference.run.outputs), strict=True))
        return Case(EXAMPLE, inputs, reference), records

    def _raised(self, i: int, reference: Reference, raised: Replay) -> list[ParityRecord]:
        """Compare a block's raised program, run by PyTorch, with the reference."""
        writes = self.prepared.blocks[i].pieces[self.variant.name].writes
        subject = Subject(self.component.name, self.component.blocks[i].name, self.variant.name, RAISED, writes)
        return check_parity(subject, EXAMPLE, reference, raised.outputs, raised.exposed, self._gate_in_pytorch())

    def unheld(self, records: Sequence[ParityRecord]) -> tuple[str, ...]:
        """Of the blocks that the records are of, those of a streamed model that its captured program has not."""
        if not self.prepared.captured:
            return ()
        verified = {record.block for record in records}
        blocks = ((i, block.name) for i, block in enumerate(self.component.blocks) if block.name in verified)
        return tuple(name for i, name in blocks if self._captured(i) is None)

    def _captured(self, i: int) -> CapturedBlock | None:
        """A streamed block as it was captured, where the captured program has such a block."""
        program = self.prepared.captured.get(self.variant.name)
        piece = self.prepared.blocks[i].pieces[self.variant.name]
        return None if program is None else captured_block(program, piece.captured_reads, piece.captured_writes)

    def _captured_run(self, i: int, inputs: Sequence[Tensor]) -> Callable[..., EagerRun] | None:
        """Runs a streamed block as it was captured, where there is one."""
        block = self._captured(i)
        if block is None:
            return None

        def run(forced: Mapping[int, Tensor] | None = None) -> EagerRun:
            return run_watched(lambda: block.run(inputs, self.prepared.weights.read), self.options.seed, forced)

        return run

    def _check(self, i: int, cases: Sequence[Case]) -> tuple[list[ParityRecord], Probe | None]:
        """Compare one block with PyTorch: what was converted on the first case, the artifact on all."""
        function = self._function(i)
        artifact = Artifact(
            self.component.name,
            self.component.blocks[i].name,
            function,
            self.bundle / function.artifact,
            self._probe(i) if cases[0].reference.run.decisions else None,
        )
        lowered = self._lowered(i) if artifact.probe is None else artifact.probe.program
        records = check_rewrite(artifact, lowered, cases[0], self._gate_in_pytorch())
        if self.prepared.captured and artifact.probe is None and not all(record.passed for record in records):
            records = self._raised(i, cases[0].reference, replay(self._program(i), cases[0].inputs)) + records
        return records + check_artifact(artifact, cases, self.target, self._gate()), artifact.probe

    def _probe(self, i: int) -> Probe:
        """The block's program with its decisions as further outputs, converted."""
        exposed = lower(expose_decisions(self._program(i)), self.target, self.options).program
        return emit_probe(exposed, self._function(i), self.target, self.options, self.scratch)

    def _lowered(self, i: int) -> ExportedProgram:
        """The program as it was converted; lowered anew if that was in another try."""
        known = self.converted.legalized.get(self.prepared.blocks[i].structure)
        if known is None:
            return lower(self._program(i), self.target, self.options).program
        legalized = known[self.variant.name]
        weights = weights_of(self.prepared, self.prepared.blocks[i])
        return with_tensors(legalized.program, legalized.recipe.follow(weights))

    def _composed(self, engine: Engine, cases: Sequence[Case], probes: Sequence[Probe | None]) -> list[ParityRecord]:
        """Run all blocks on the engine, each on what it made of those before, and compare the outputs."""
        made = [dict(zip(self.prepared.signature.inputs, case.inputs, strict=True)) for case in cases]
        decided: list[list[Tensor]] = [[] for _ in cases]
        for i, (call, probe) in enumerate(zip(self.variant.calls, probes, strict=True)):
            function = self._function(i)
            given = [[values[name] for name in call.reads] for values in made]
            if probe is not None:
                for own, exposed in zip(decided, run_artifact(engine, probe.path, probe.variant, given), strict=True):
                    own += exposed[len(function.outputs) :]
            results = run_artifact(engine, self.bundle / function.artifact, function, given)
            made = [
                self._still_read(values | dict(zip(call.writes, written, strict=True)), i)
                for values, written in zip(made, results, strict=True)
            ]
        names = tuple(spec.name for spec in self.variant.outputs)
        subject = Subject(self.component.name, WHOLE, self.variant.name, engine.name, names)
        records: list[ParityRecord] = []
        for case, values, own in zip(cases, made, decided, strict=True):
            wanted, agreement = with_decisions(case.reference, own, self._gate())
            outputs = [values[name] for name in names]
            records += records_of(subject, case.name, outputs, wanted.outputs, agreement, self._gate())
        return records

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
        yield PlacementRecord(
            component=component.name,
            block=block.name,
            variant=variant,
            regions=found.regions,
            operators=dict(found.operators),
            outside=dict(found.outside),
        )
