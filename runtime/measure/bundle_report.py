"""Measures the variants of a bundle, each in a process of its own, and puts the report together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tm_export.runtime.manifest import MANIFEST_NAME, Manifest, VariantRef, file_sha256, read_manifest, verify_files
from tm_export.runtime.measure.bench import record_variant
from tm_export.runtime.measure.isolated import isolated
from tm_export.runtime.measure.latency_report import Artifact, Conditions, LatencyReport
from tm_export.runtime.measure.machine import present_conditions, this_device
from tm_export.runtime.measure.options import BenchOptions
from tm_export.runtime.measure.recording import Recording
from tm_export.runtime.measure.report_terms import PageCache
from tm_export.runtime.measure.series import resource_use_of, series_of


@dataclass(frozen=True)
class Measured:
    """A report and what it was made from."""

    report: LatencyReport
    recordings: tuple[Recording, ...]


def bench_bundle(
    bundle_dir: Path, component: str | None, variant: str | None, options: BenchOptions, tell: Callable[[str], None]
) -> Measured:
    """Proves the bundle's files whole, measures its variants, and returns the report.

    Args:
        bundle_dir: the bundle.
        component: measure only this one; None measures all.
        variant: measure only this one of each component that has it; None measures all.
        options: how to measure.
        tell: is told what is about to be measured.

    Raises:
        BundleError: the bundle cannot be used, or has no such component or variant.
        EngineError: the engine refuses a block, fails, or dies.
        BudgetTooSmall: a block cannot run within the memory budget.
    """
    manifest = read_manifest(bundle_dir)
    chosen = variants_to_measure(manifest, component, variant)
    tell(f"checking the files of {bundle_dir}")
    verify_files(bundle_dir, manifest)
    conditions = present_conditions()
    recordings = []
    for number, ref in enumerate(chosen, start=1):
        tell(f"measuring {ref.component}/{ref.variant} ({number} of {len(chosen)})")
        recordings.append(isolated(record_variant, bundle_dir, manifest, ref.component, ref.variant, options))
    return Measured(_report(bundle_dir, manifest, conditions, recordings, options), tuple(recordings))


def variants_to_measure(manifest: Manifest, component: str | None, variant: str | None) -> tuple[VariantRef, ...]:
    """The variants of that component (of all if None) and of that name (all if None), in the manifest's order.

    Raises:
        BundleError: there is no such component, or none of those has such a variant.
    """
    components = manifest.components if component is None else (manifest.component(component),)
    found = tuple(
        VariantRef(component=part.name, variant=candidate.name)
        for part in components
        for candidate in part.variants
        if variant in (None, candidate.name)
    )
    if not found:
        components[0].variant(variant or "")  # says which there are
    return found


def _report(
    bundle_dir: Path,
    manifest: Manifest,
    conditions: Conditions,
    recordings: Sequence[Recording],
    options: BenchOptions,
) -> LatencyReport:
    loads = [recording.other_load_cores for recording in recordings]
    inputs = {recording.inputs for recording in recordings}
    return LatencyReport(
        source="tm-bench",
        model=manifest.model,
        target=manifest.target,
        device=this_device(),
        engine=recordings[0].engine,
        conditions=conditions.model_copy(
            update={
                "page_cache": _page_cache(recordings),
                "other_load_cores": max((load for load in loads if load is not None), default=None),
                "inputs": inputs.pop() if len(inputs) == 1 else "mixed",
            }
        ),
        manifest_sha256=file_sha256(bundle_dir / MANIFEST_NAME),
        artifacts=_artifacts(manifest, recordings),
        memory_budget_bytes=options.memory_budget,
        prefetch_depth=options.prefetch_depth,
        warmup_runs=options.warmup,
        measured_runs=options.runs,
        series=tuple(series for recording in recordings for series in series_of(recording)),
        resources=tuple(resource_use_of(recording) for recording in recordings),
    )


def _page_cache(recordings: Sequence[Recording]) -> PageCache:
    """What holds of all: dropped only if it was for every one of them."""
    return next((r.page_cache for r in recordings if r.page_cache != "dropped"), "dropped")


def _artifacts(manifest: Manifest, recordings: Sequence[Recording]) -> tuple[Artifact, ...]:
    """The files of the blocks that were run, as the manifest lists them."""
    paths = {
        path
        for recording in recordings
        for call in manifest.component(recording.component).variant(recording.variant).calls
        for path in manifest.component(recording.component).block(call.block).files
    }
    return tuple(
        Artifact(path=entry.path, bytes=entry.bytes, sha256=entry.sha256)
        for entry in manifest.files
        if entry.path in paths
    )
