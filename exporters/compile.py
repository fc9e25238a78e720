"""The pipeline: capture → rewrite → emit → verify, for every variant of every component.

Each stage is a function from one typed value to the next; this file says in which order they run.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor
from torch.export import ExportedProgram

from tm_export.exporters.capture import capture
from tm_export.exporters.describe import merge_sites, signature_of, variant_of, write_golden
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.progress import Progress
from tm_export.exporters.records import ExportReport, MergeSite, ParityRecord, PlacementRecord, StageRecord
from tm_export.exporters.report.page import Picture
from tm_export.exporters.report.pictures import region_pictures
from tm_export.exporters.rewrite import Raised, expose_decisions, lower_merges, raise_merges
from tm_export.exporters.sites import decisions_of
from tm_export.exporters.sources import ComponentSource, ModelSource
from tm_export.exporters.stopwatch import Stopwatch
from tm_export.exporters.targets.base import Signature, Target
from tm_export.exporters.verify.artifact import Artifact, Probe, check_artifact, check_rewrite
from tm_export.exporters.verify.replay import replay
from tm_export.exporters.worker import Emission, start_emission
from tm_export.runtime import manifest

BLOCK = "00"
"""The one block of a component."""


@dataclass(frozen=True)
class Compiled:
    """What an export made: the manifest's components and golden runs, and what it found out on the way."""

    components: tuple[manifest.Component, ...]
    golden: tuple[manifest.Golden, ...]
    report: ExportReport
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """One variant on its way: rewritten, and being emitted.

    `probe` is the program with its decisions as further outputs; None if it decides nothing.
    """

    component: ComponentSource
    variant: manifest.Variant
    raised: Raised
    program: ExportedProgram
    probe: ExportedProgram | None
    outputs: tuple[Tensor, ...]
    signature: Signature
    emission: Emission
    watch: Stopwatch
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class CompiledVariant:
    """One variant's share of `Compiled`."""

    variant: manifest.Variant
    golden: manifest.Golden
    merges: tuple[MergeSite, ...]
    parity: tuple[ParityRecord, ...]
    placement: PlacementRecord
    stages: tuple[StageRecord, ...]
    pictures: tuple[Picture, ...]


def compile_model(
    source: ModelSource, target: Target, options: ExportOptions, staging: Path, report: Progress
) -> Compiled:
    """Export every variant of every component to files under `staging`, and verify each.

    Raises `ConversionRefused` where the model cannot be expressed. Failed parity is in the report, not raised.
    """
    started = time.monotonic()
    components: list[manifest.Component] = []
    done: list[CompiledVariant] = []
    for component in source.components:
        # A converter works on one variant, in its own process, while the next is captured here.
        prepared = [prepare(component, name, target, options, staging, report) for name in component.variants]
        compiled = [finish(one, target, options, staging) for one in prepared]
        block = manifest.Block(name=BLOCK, variants=tuple(one.variant for one in compiled))
        components.append(manifest.Component(name=component.name, blocks=(block,)))
        done += compiled
    return Compiled(
        components=tuple(components),
        golden=tuple(one.golden for one in done),
        report=ExportReport(
            model=source.name,
            target=target.name,
            options={**asdict(options), "precision": target.precision(options)},
            merges=tuple(site for one in done for site in one.merges),
            parity=tuple(record for one in done for record in one.parity),
            placement=tuple(one.placement for one in done),
            stages=tuple(stage for one in done for stage in one.stages),
            total_seconds=time.monotonic() - started,
            total_bytes=sum(file.stat().st_size for file in staging.rglob("*") if file.is_file()),
        ),
        pictures=tuple(picture for one in done for picture in one.pictures),
    )


def plan(source: ModelSource, target: Target, options: ExportOptions) -> tuple[MergeSite, ...]:
    """The merge sites that an export would rewrite, and how; nothing is written."""
    sites: list[MergeSite] = []
    for component in source.components:
        for name, build in component.variants.items():
            raised = raise_merges(capture(build(), component.example_inputs, options.seed), options.seed)
            sites += merge_sites(component.name, name, raised, target, options)
    return tuple(sites)


def prepare(
    component: ComponentSource,
    name: str,
    target: Target,
    options: ExportOptions,
    staging: Path,
    report: Progress,
) -> Prepared:
    """Capture and rewrite one variant, and start to emit it."""
    inputs = component.example_inputs
    watch = Stopwatch(component.name, name, report)
    with watch.stage("capture"):
        module = component.variants[name]()
        captured = capture(module, inputs, options.seed)
        outputs = replay(captured, inputs).outputs
        signature = signature_of(component, outputs)
    with watch.stage("rewrite"):
        raised = raise_merges(captured, options.seed)
        program = _lowered(raised.program, target, options)
        probe = _lowered(expose_decisions(raised.program), target, options) if decisions_of(raised.program) else None
    path = staging / component.name / f"{BLOCK}_{name}{target.suffix}"
    emission = start_emission(program, signature, path, target, options)
    variant = variant_of(name, path.relative_to(staging).as_posix(), signature, inputs, outputs, target)
    pictures = region_pictures(raised, inputs)
    return Prepared(component, variant, raised, program, probe, outputs, signature, emission, watch, pictures)


def finish(prepared: Prepared, target: Target, options: ExportOptions, staging: Path) -> CompiledVariant:
    """Wait for the artifact, verify it, and describe it."""
    component, variant, watch = prepared.component, prepared.variant, prepared.watch
    inputs, path = component.example_inputs, staging / variant.artifact
    with watch.stage("emit"):
        watch.worker_peak_bytes = prepared.emission.wait()
    with watch.stage("verify"), tempfile.TemporaryDirectory(dir=staging) as scratch:
        probe = None if prepared.probe is None else Probe(prepared.probe, Path(scratch) / f"probe{target.suffix}")
        artifact = Artifact(component.name, BLOCK, variant, path, prepared.raised.program, probe)
        parity = check_rewrite(artifact, prepared.program, inputs)
        parity += check_artifact(artifact, inputs, target, options)
    return CompiledVariant(
        variant=variant,
        golden=write_golden(staging, component.name, BLOCK, variant.name, prepared.signature, inputs, prepared.outputs),
        merges=merge_sites(component.name, variant.name, prepared.raised, target, options),
        parity=tuple(parity),
        placement=PlacementRecord(
            component=component.name, block=BLOCK, variant=variant.name, **asdict(target.placement(path))
        ),
        stages=tuple(watch.records),
        pictures=prepared.pictures,
    )


def _lowered(raised: ExportedProgram, target: Target, options: ExportOptions) -> ExportedProgram:
    half = target.precision(options) == "fp16"
    return target.legalize(lower_merges(raised, target.costs(options), options, half=half), options)
