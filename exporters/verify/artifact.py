"""Verify one artifact: the rewritten program in PyTorch, then the file itself on every engine there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.export import ExportedProgram

from tm_export.exporters.describe import tensor_spec
from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.records import ParityRecord
from tm_export.exporters.targets.base import Function, Signature, Target
from tm_export.exporters.verify.gates import REWRITE, gate_for
from tm_export.exporters.verify.parity import Subject, check_parity
from tm_export.exporters.verify.replay import Reference, replay
from tm_export.exporters.worker import save_block, start_emission
from tm_export.runtime import manifest
from tm_export.runtime.engines import engines_for
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
    """What is verified: a variant's file, against what the captured program computes.

    `probe` is None if the program decides nothing.
    """

    component: str
    block: str
    variant: manifest.Variant
    path: Path
    reference: Reference
    probe: Probe | None

    def subject(self, engine: str) -> Subject:
        """How records name a comparison on this engine."""
        outputs = tuple(spec.name for spec in self.variant.outputs)
        return Subject(self.component, self.block, self.variant.name, engine, outputs)


def emit_probe(
    program: ExportedProgram,
    variant: manifest.Variant,
    inputs: Sequence[Tensor],
    target: Target,
    options: ExportOptions,
    folder: Path,
) -> Probe:
    """Emit a program whose decisions are further outputs, under the signature of `variant` and these."""
    named = _probe_variant(program, variant, inputs, target)
    names = Signature(tuple(spec.name for spec in named.inputs), tuple(spec.name for spec in named.outputs))
    emission = start_emission(save_block({PROBE: Function(program, names)}, folder), PROBE, target, options)
    emission.wait()
    return Probe(program, emission.folder / target.artifact(PROBE, PROBE), named)


def check_rewrite(artifact: Artifact, lowered: ExportedProgram, inputs: Sequence[Tensor]) -> list[ParityRecord]:
    """Compare the rewritten program, run by PyTorch, with the captured one.

    One that decides has its decisions as further outputs, so that they and the outputs are of the same run: where
    scores are equal but for rounding, another run may decide otherwise.
    """
    made = replay(lowered, inputs).outputs
    outputs = made[: len(artifact.variant.outputs)]
    exposed = None if artifact.probe is None else (lambda: made)
    return check_parity(artifact.subject("rewrite"), artifact.reference, lambda: outputs, exposed, REWRITE)


def check_artifact(
    artifact: Artifact, inputs: Sequence[Tensor], target: Target, options: ExportOptions
) -> list[ParityRecord]:
    """Compare the file, on each of its target's engines, with PyTorch."""
    probe = artifact.probe
    records: list[ParityRecord] = []
    for engine in engines_for(target.name):
        exposed = None if probe is None else partial(run_artifact, engine, probe.path, probe.variant, inputs)
        run = partial(run_artifact, engine, artifact.path, artifact.variant, inputs)
        gate = gate_for(target.precision(options))
        records += check_parity(artifact.subject(engine.name), artifact.reference, run, exposed, gate)
    return records


def run_artifact(engine: Engine, path: Path, variant: manifest.Variant, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What an engine computes; raises `ConversionRefused` if it does not run the file."""
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


def _probe_variant(
    program: ExportedProgram, variant: manifest.Variant, inputs: Sequence[Tensor], target: Target
) -> manifest.Variant:
    """The probe's signature: the artifact's, and an integer output for each decision."""
    decided = replay(program, inputs).outputs[len(variant.outputs) :]
    extra = tuple(tensor_spec(f"decision_{i}", index, target) for i, index in enumerate(decided))
    outputs = (*variant.outputs, *extra)
    return variant.model_copy(update={"outputs": outputs, "function": target.function(PROBE, 1)})
