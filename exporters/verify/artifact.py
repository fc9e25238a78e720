"""Verify one artifact: what was converted, run by PyTorch, then the file itself on every engine there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.export import ExportedProgram

from tm_export.exporters.convert.worker import save_block, start_emission
from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.graph.nodes import arguments, value_of
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.record.records import ParityRecord
from tm_export.exporters.reference.cases import Case
from tm_export.exporters.reference.gates import Gate
from tm_export.exporters.reference.parity import Subject, check_parity
from tm_export.exporters.reference.replay import run_lowered
from tm_export.exporters.targets.base import Function, Signature, Target
from tm_export.exporters.targets.specs import as_declared, tensor_specs
from tm_export.runtime import manifest
from tm_export.runtime.engines import engines_to_verify
from tm_export.runtime.engines.base import Engine, EngineError

PROBE: Final = "probe"


@dataclass(frozen=True)
class Probe:
    """The same program with its decisions as further outputs, and the artifact made of it for the time being."""

    program: ExportedProgram
    path: Path
    variant: manifest.Variant


@dataclass(frozen=True)
class Artifact:
    """What is verified: a variant's file. `probe` is None if the program decides nothing."""

    component: str
    block: str
    variant: manifest.Variant
    path: Path
    probe: Probe | None

    def subject(self, engine: str) -> Subject:
        """How records name a comparison on this engine."""
        outputs = tuple(spec.name for spec in self.variant.outputs)
        return Subject(self.component, self.block, self.variant.name, engine, outputs)


def emit_probe(
    program: ExportedProgram, variant: manifest.Variant, target: Target, options: ExportOptions, folder: Path
) -> Probe:
    """Emit a program whose decisions are further outputs, under the signature of `variant` and these."""
    named = _probe_variant(program, variant, target)
    names = Signature(tuple(spec.name for spec in named.inputs), tuple(spec.name for spec in named.outputs))
    emission = start_emission(save_block({PROBE: Function(program, names)}, folder), PROBE, target, options)
    emission.wait()
    return Probe(program, emission.folder / target.artifact(PROBE, PROBE), named)


def check_rewrite(artifact: Artifact, lowered: ExportedProgram, case: Case, gate: Gate) -> list[ParityRecord]:
    """Compare the rewritten program, run by PyTorch, with the reference.

    One that decides has its decisions as further outputs, so that they and the outputs are of the same run: where
    scores are equal but for rounding, another run may decide otherwise.
    """
    made = run_lowered(lowered, case.inputs)
    outputs = made[: len(artifact.variant.outputs)]
    exposed = None if artifact.probe is None else made
    return check_parity(artifact.subject("rewrite"), case.name, case.reference, outputs, exposed, gate)


def check_artifact(artifact: Artifact, cases: Sequence[Case], target: Target, gate: Gate) -> list[ParityRecord]:
    """Compare the file, on each of its target's engines, with the reference of each case."""
    probe, inputs = artifact.probe, [case.inputs for case in cases]
    records: list[ParityRecord] = []
    for engine in engines_to_verify(target.name):
        exposed: Sequence[tuple[Tensor, ...] | None] = [None] * len(cases)
        if probe is not None:
            exposed = run_artifact(engine, probe.path, probe.variant, inputs)
        results = run_artifact(engine, artifact.path, artifact.variant, inputs)
        for case, result, decided in zip(cases, results, exposed, strict=True):
            records += check_parity(artifact.subject(engine.name), case.name, case.reference, result, decided, gate)
    return records


def run_artifact(
    engine: Engine, path: Path, variant: manifest.Variant, inputs: Sequence[Sequence[Tensor]]
) -> list[tuple[Tensor, ...]]:
    """What an engine computes on each of these inputs; raises `ConversionRefused` if it does not run the file."""
    made = []
    try:
        with engine.open(path, variant) as session:
            for given in inputs:
                arrays = {
                    spec.name: as_declared(spec, tensor) for spec, tensor in zip(variant.inputs, given, strict=True)
                }
                outputs = session.run(arrays)
                made.append(tuple(torch.from_numpy(outputs[spec.name]) for spec in variant.outputs))
    except EngineError as error:
        raise ConversionRefused(f"{engine.name} does not run {path.name}: {error}") from error
    return made


def _probe_variant(program: ExportedProgram, variant: manifest.Variant, target: Target) -> manifest.Variant:
    """The probe's signature: the artifact's, and an integer output for each decision."""
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    decided = [value_of(node) for node in arguments(output)[0][len(variant.outputs) :]]
    extra = tensor_specs([f"decision_{i}" for i in range(len(decided))], decided, target)
    return variant.model_copy(update={"outputs": (*variant.outputs, *extra), "function": target.function(PROBE, 1)})
