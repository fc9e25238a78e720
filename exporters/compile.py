"""The pipeline: capture → rewrite → emit → verify, for every variant of every component.

Each stage is a function from one typed value to the next; this file says in which order they run.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tm_export.exporters.capture import capture
from tm_export.exporters.describe import merge_sites, signature_of, variant_of, write_golden
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.progress import Progress
from tm_export.exporters.records import ExportReport, MergeSite, ParityRecord, PlacementRecord, StageRecord
from tm_export.exporters.rewrite import expose_decisions, lower_merges, raise_merges
from tm_export.exporters.sites import decisions_of
from tm_export.exporters.sources import ComponentSource, ModelSource
from tm_export.exporters.stopwatch import Stopwatch
from tm_export.exporters.targets.base import Target
from tm_export.exporters.verify.artifact import Artifact, Probe, check_artifact, check_rewrite
from tm_export.exporters.verify.replay import replay
from tm_export.exporters.worker import emit_in_worker
from tm_export.runtime import manifest

BLOCK = "00"
"""The one block of a component."""


@dataclass(frozen=True)
class Compiled:
    """What an export made: the manifest's components and golden runs, and what it found out on the way."""

    components: tuple[manifest.Component, ...]
    golden: tuple[manifest.Golden, ...]
    report: ExportReport


@dataclass(frozen=True)
class CompiledVariant:
    """One variant's share of `Compiled`."""

    variant: manifest.Variant
    golden: manifest.Golden
    merges: tuple[MergeSite, ...]
    parity: tuple[ParityRecord, ...]
    placement: PlacementRecord
    stages: tuple[StageRecord, ...]


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
        compiled = [
            compile_variant(component, name, target, options, staging, report) for name in component.variants
        ]
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
    )


def plan(source: ModelSource, target: Target, options: ExportOptions) -> tuple[MergeSite, ...]:
    """The merge sites that an export would rewrite, and how; nothing is written."""
    sites: list[MergeSite] = []
    for component in source.components:
        for name, build in component.variants.items():
            raised = raise_merges(capture(build(), component.example_inputs, options.seed), options.seed)
            sites += merge_sites(component.name, name, raised, target, options)
    return tuple(sites)


def compile_variant(
    component: ComponentSource, name: str, target: Target, options: ExportOptions, staging: Path, report: Progress
) -> CompiledVariant:
    """Export one variant of one component."""
    inputs = component.example_inputs
    costs, half = target.costs(options), target.precision(options) == "fp16"
    watch = Stopwatch(component.name, name, report)

    with watch.stage("capture"):
        captured = capture(component.variants[name](), inputs, options.seed)
        outputs = replay(captured, inputs).outputs
        signature = signature_of(component, outputs)

    with watch.stage("rewrite"):
        raised = raise_merges(captured, options.seed)
        program = target.legalize(lower_merges(raised.program, costs, options, half=half), options)

    path = staging / component.name / f"{BLOCK}_{name}{target.suffix}"
    with watch.stage("emit"):
        watch.worker_peak_bytes = emit_in_worker(program, signature, path, target, options)
    variant = variant_of(name, path.relative_to(staging).as_posix(), signature, inputs, outputs, target)

    with watch.stage("verify"), tempfile.TemporaryDirectory(dir=staging) as scratch:
        probe: Probe | None = None
        if decisions_of(raised.program):
            exposed = lower_merges(expose_decisions(raised.program), costs, options, half=half)
            probe = Probe(target.legalize(exposed, options), Path(scratch) / f"probe{target.suffix}")
        artifact = Artifact(component.name, BLOCK, variant, path, captured, raised.program, probe)
        parity = [*check_rewrite(artifact, program, inputs), *check_artifact(artifact, inputs, target, options)]

    return CompiledVariant(
        variant=variant,
        golden=write_golden(staging, component.name, BLOCK, name, signature, inputs, outputs),
        merges=merge_sites(component.name, name, raised, target, options),
        parity=tuple(parity),
        placement=PlacementRecord(
            component=component.name, block=BLOCK, variant=name, **asdict(target.placement(path))
        ),
        stages=tuple(watch.records),
    )
