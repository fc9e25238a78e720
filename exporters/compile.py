"""The pipeline: capture → rewrite → partition → emit → verify, for every component.

Each stage is a function from one typed value to the next; this file says in which order they run.
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from tm_export.exporters.bundle.compiled import Compiled
from tm_export.exporters.bundle.manifest_of import component_of
from tm_export.exporters.bundle.staging import Staging
from tm_export.exporters.convert.convert import Conversion, Converted, Workshop
from tm_export.exporters.convert.journal import Journal
from tm_export.exporters.convert.worker import warm_up
from tm_export.exporters.errors import UsageError
from tm_export.exporters.options import Effort, ExportOptions
from tm_export.exporters.partition.prepare import Prepared, prepare
from tm_export.exporters.record.progress import Progress
from tm_export.exporters.record.records import (
    ComponentBlocks,
    ExportReport,
    MergeSite,
    ParityRecord,
    ReferenceRecord,
    WideningRecord,
)
from tm_export.exporters.report.merges import merge_sites
from tm_export.exporters.report.page import Picture
from tm_export.exporters.report.pictures import region_pictures
from tm_export.exporters.source.model_source import ComponentSource, ModelSource
from tm_export.exporters.targets.base import Target
from tm_export.exporters.verify.component import Verified, verify_component


def compile_model(
    source: ModelSource, target: Target, asked: ExportOptions, effort: Effort, staging: Staging, report: Progress
) -> Compiled:
    """Export every variant of every component to files under `staging.bundle`, and verify each.

    Raises `ConversionRefused` where the model cannot be expressed, and `BudgetExceeded` where it cannot be cut
    into blocks that fit. Failed parity is in the report, not raised.
    """
    started = time.monotonic()
    _require_components(source, asked)
    warm_up([target])
    workshop = Workshop(staging.bundle, staging.scratch, staging.journal, effort.jobs)
    compiled = Compiled((), (), ExportReport.empty(source.name, target.name, _said(target, asked)))
    try:
        with closing(_converted(source, target, asked, workshop, report)) as components:
            for component in components:
                compiled = _verified(compiled, *component, target, workshop, effort, report)
    except _NotTheModule as error:
        return replace(compiled, report=compiled.report.with_more(parity=error.records))
    finished = compiled.report.model_copy(
        update={
            "total_seconds": time.monotonic() - started,
            "total_bytes": sum(file.stat().st_size for file in staging.bundle.rglob("*") if file.is_file()),
        }
    )
    return Compiled(compiled.components, compiled.golden, finished, compiled.pictures)


def _verified(
    compiled: Compiled,
    prepared: Prepared,
    options: ExportOptions,
    converted: Converted,
    target: Target,
    workshop: Workshop,
    effort: Effort,
    report: Progress,
) -> Compiled:
    """What is compiled, and one component more, after its artifacts have been run."""
    described = component_of(prepared, target, workshop.bundle)
    verified = verify_component(prepared, converted, described, target, options, workshop, effort.verify, report)
    blocks = ComponentBlocks(
        component=described.name,
        blocks=len(prepared.blocks),
        programs=converted.programs,
        conversions=converted.conversions,
    )
    return Compiled(
        components=(*compiled.components, described),
        golden=(*compiled.golden, *verified.golden),
        report=compiled.report.with_more(
            merges=_sites(prepared, target, options),
            parity=(*prepared.source_parity, *verified.parity),
            placement=verified.placement,
            stages=(*prepared.stages, *converted.stages, *verified.stages),
            blocks=(blocks,),
            references=tuple(_reference_of(prepared, variant.name, verified) for variant in described.variants),
        ),
        pictures=(*compiled.pictures, *_pictures(prepared)),
    )


def _reference_of(prepared: Prepared, variant: str, verified: Verified) -> ReferenceRecord:
    check = prepared.checks.get(variant)
    own = [record for record in verified.parity if record.variant == variant]
    return ReferenceRecord(
        component=prepared.source.name,
        variant=variant,
        reference="captured" if check is None else "module",
        twin=None if check is not None or prepared.source.twin is None else prepared.source.twin[0],
        first_layers=prepared.first_layers.get(variant),
        unheld_blocks=verified.unheld[variant],
        inputs=tuple(dict.fromkeys(record.inputs for record in own)),
        widened=WideningRecord(**asdict(prepared.widenings[variant])) if variant in prepared.widenings else None,
        draws=() if check is None else check.draws,
    )


def _converted(
    source: ModelSource, target: Target, asked: ExportOptions, workshop: Workshop, report: Progress
) -> Generator[tuple[Prepared, ExportOptions, Converted]]:
    """Every component, prepared and converted, with its options, in the model's order.

    While workers convert some, the next are captured, and the caller can verify those that are done. A component of
    more programs than can be begun with is finished before the next is begun with, so that jobs stay as many as asked.
    One whose weights are read from a checkpoint waits until those before it are verified: memory is for one at a time.
    """
    running: deque[tuple[Prepared, ExportOptions, Conversion]] = deque()
    components: Iterable[tuple[Prepared, ExportOptions]] = _prepared(source, target, asked, report)
    if asked.block_budget is not None or asked.component_budgets:
        # A budget that is too small for the last one is said before the first is converted, not after an hour.
        components = _let_go(deque(components))
    try:
        for prepared, options in components:
            done = []
            while any(conversion.has_more for _, _, conversion in running):
                done.append(_finished(running))
            if prepared.source.weights is not None:
                yield from done
                done = []
                while running:
                    yield _finished(running)
            while len(jobs := _unfinished(running)) >= workshop.jobs:
                wait(jobs, return_when=FIRST_COMPLETED)
            at_once = workshop.jobs - len(jobs)
            conversion = Conversion(prepared, target, options, workshop, report, at_once=at_once)
            running.append((prepared, options, conversion))
            while len(running) > 1 and not running[0][2].unfinished:
                done.append(_finished(running))
            yield from done
        while running:
            yield _finished(running)
    finally:
        for _, _, conversion in running:
            conversion.cancel()


def _prepared(
    source: ModelSource, target: Target, asked: ExportOptions, report: Progress
) -> Generator[tuple[Prepared, ExportOptions]]:
    """Every component in blocks, with its options, in the model's order."""
    for component in source.components:
        options = options_for(component, target, asked)
        if options.precision != target.precision(asked):
            report.say(f"{component.name} is computed in fp32, which it needs, its weights stored in 16 bits")
        prepared = prepare(component, options, report)
        if not all(record.passed for record in prepared.source_parity):
            raise _NotTheModule(prepared.source_parity)
        yield prepared, options


class _NotTheModule(Exception):
    """A captured or raised program does not compute what the user's module does: nothing of it is worth converting."""

    def __init__(self, records: tuple[ParityRecord, ...]) -> None:
        super().__init__()
        self.records = records


def _let_go(parts: deque[tuple[Prepared, ExportOptions]]) -> Generator[tuple[Prepared, ExportOptions]]:
    """Each in turn, and none is held any longer once it has been given out."""
    while parts:
        yield parts.popleft()


def _unfinished(running: Iterable[tuple[Prepared, ExportOptions, Conversion]]) -> list[Future[int]]:
    return [job for _, _, conversion in running for job in conversion.unfinished]


def _finished(running: deque[tuple[Prepared, ExportOptions, Conversion]]) -> tuple[Prepared, ExportOptions, Converted]:
    """The first of these, once it is converted."""
    prepared, options, conversion = running[0]
    converted = conversion.finish()
    running.popleft()
    return prepared, options, converted


def plan(
    source: ModelSource, target: Target, options: ExportOptions, report: Progress
) -> tuple[tuple[Prepared, tuple[MergeSite, ...]], ...]:
    """The blocks of each component, and the merge sites that an export would rewrite; nothing of it is kept.

    Raises what an export would before it verifies. Components whose weights are read from a checkpoint are not
    converted for it.
    """
    planned = []
    _require_components(source, options)
    for component in source.components:
        own = options_for(component, target, options)
        prepared = prepare(component, own, report)
        if component.weights is None:
            _try_conversion(prepared, target, own, report)
        planned.append((prepared, _sites(prepared, target, own)))
    return tuple(planned)


def _try_conversion(prepared: Prepared, target: Target, options: ExportOptions, report: Progress) -> None:
    """Raise what an export would while it converts."""
    with tempfile.TemporaryDirectory() as folder:
        bundle, scratch = Path(folder, "bundle"), Path(folder, "scratch")
        for each in (bundle, scratch):
            each.mkdir()
        workshop = Workshop(bundle, scratch, Journal(scratch / "journal", bundle), jobs=1)
        Conversion(prepared, target, options, workshop, report, at_once=1).finish()


def options_for(component: ComponentSource, target: Target, options: ExportOptions) -> ExportOptions:
    """The options for one component: its block budget, and its precision.

    A component that needs fp32 is computed in it, and still stored in 16 bits.
    """
    budget = dict(options.component_budgets).get(component.name, options.block_budget)
    options = replace(options, block_budget=budget, component_budgets=())
    precision = target.precision(options)
    if component.needs_fp32 and precision == "fp16":
        return replace(options, precision="fp32", weights=options.weights or "fp16")
    return replace(options, precision=precision)


def _require_components(source: ModelSource, options: ExportOptions) -> None:
    """Raise `UsageError` if a block budget is for a component that is not exported."""
    known = [component.name for component in source.components]
    for name, _ in options.component_budgets:
        if name not in known:
            raise UsageError(
                f"--block-budget is given for {name!r}, which is not exported: there are {', '.join(known)}"
            )


def _said(target: Target, options: ExportOptions) -> dict[str, object]:
    return {**asdict(options), "precision": target.precision(options)}


def _sites(prepared: Prepared, target: Target, options: ExportOptions) -> tuple[MergeSite, ...]:
    return tuple(
        site
        for variant, raised in prepared.raised.items()
        for site in merge_sites(prepared.source.name, variant, raised, target, options)
    )


def _pictures(prepared: Prepared) -> tuple[Picture, ...]:
    """Pictures are drawn from a run of the whole component, whose weights must be in memory for it."""
    if prepared.source.weights is not None:
        return ()
    return tuple(
        picture
        for variant, raised in prepared.raised.items()
        for picture in region_pictures(raised, prepared.source.inputs_of(variant))
    )
