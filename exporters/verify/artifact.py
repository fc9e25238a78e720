"""Verify one artifact: the rewritten program in PyTorch, then the file itself on every engine there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from tm_export.exporters.describe import tensor_spec
from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.records import ParityRecord
from tm_export.exporters.targets.base import Signature, Target
from tm_export.exporters.verify.gates import REWRITE, gate_for
from tm_export.exporters.verify.parity import Subject, check_parity
from tm_export.exporters.verify.replay import replay
from tm_export.exporters.worker import start_emission
from tm_export.runtime import manifest
from tm_export.runtime.engines import engines_for
from tm_export.runtime.engines.base import Engine, EngineError


@dataclass(frozen=True)
class Probe:
    """The same program with its decisions as further outputs, and where to emit it for the time being."""

    program: ExportedProgram
    path: Path


@dataclass(frozen=True)
class Artifact:
    """What is verified: a variant's file, against the program that was raised.

    `probe` is None if the program decides nothing.
    """

    component: str
    block: str
    variant: manifest.Variant
    path: Path
    raised: ExportedProgram
    probe: Probe | None

    def subject(self, engine: str) -> Subject:
        """How records name a comparison on this engine."""
        outputs = tuple(spec.name for spec in self.variant.outputs)
        return Subject(self.component, self.block, self.variant.name, engine, outputs)


def check_rewrite(artifact: Artifact, program: ExportedProgram, inputs: Sequence[Tensor]) -> list[ParityRecord]:
    """Compare the rewritten program, run by PyTorch, with the captured one."""
    probe = artifact.probe
    exposed = None if probe is None else (lambda: replay(probe.program, inputs).outputs)
    return check_parity(
        artifact.subject("rewrite"),
        artifact.raised,
        inputs,
        lambda: replay(program, inputs).outputs,
        exposed,
        REWRITE,
    )


def check_artifact(
    artifact: Artifact, inputs: Sequence[Tensor], target: Target, options: ExportOptions
) -> list[ParityRecord]:
    """Compare the file, on each of its target's engines, with PyTorch."""
    probe, probe_variant = artifact.probe, artifact.variant
    if probe is not None:
        probe_variant = _probe_variant(artifact, probe, inputs, target)
        names = Signature(
            tuple(spec.name for spec in probe_variant.inputs),
            tuple(spec.name for spec in probe_variant.outputs),
        )
        start_emission(probe.program, names, probe.path, target, options).wait()
    records: list[ParityRecord] = []
    for engine in engines_for(target.name):
        exposed = None if probe is None else _runner(engine, probe.path, probe_variant, inputs)
        run = _runner(engine, artifact.path, artifact.variant, inputs)
        gate = gate_for(target.precision(options))
        records += check_parity(artifact.subject(engine.name), artifact.raised, inputs, run, exposed, gate)
    return records


def _probe_variant(artifact: Artifact, probe: Probe, inputs: Sequence[Tensor], target: Target) -> manifest.Variant:
    """The probe's signature: the artifact's, and an integer output for each decision."""
    known = len(artifact.variant.outputs)
    decided = replay(probe.program, inputs).outputs[known:]
    extra = tuple(tensor_spec(f"decision_{i}", index, target) for i, index in enumerate(decided))
    return artifact.variant.model_copy(update={"outputs": (*artifact.variant.outputs, *extra)})


def _runner(
    engine: Engine, path: Path, variant: manifest.Variant, inputs: Sequence[Tensor]
) -> Callable[[], tuple[Tensor, ...]]:
    def run() -> tuple[Tensor, ...]:
        arrays = {
            spec.name: tensor.detach().contiguous().numpy().astype(spec.dtype)
            for spec, tensor in zip(variant.inputs, inputs, strict=True)
        }
        try:
            with engine.open(path, variant) as session:
                outputs = session.run(arrays)
        except EngineError as error:
            raise ConversionRefused(f"{engine.name} does not run {path.name}: {error}") from error
        return tuple(torch.from_numpy(outputs[spec.name]) for spec in variant.outputs)

    return run
