"""The merge report's rows: where tokens are merged, how many, in which form and why."""

from __future__ import annotations

from tm_export.exporters.graph.macs import count_macs
from tm_export.exporters.lowering.choose import choose
from tm_export.exporters.merging.raise_merges import Raised
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.record.records import MergeSite
from tm_export.exporters.targets.base import Target


def merge_sites(
    component: str, variant: str, raised: Raised, target: Target, options: ExportOptions
) -> tuple[MergeSite, ...]:
    """The merge report's rows."""
    half = target.precision(options) == "fp16"
    unmerged = count_macs(raised.program) + sum(site.macs_saved for site in raised.sites)
    rows = []
    for site in raised.sites:
        choice = choose(site.work, target.costs(options), options, half=half) if site.has_choice else None
        rows.append(
            MergeSite(
                component=component,
                variant=variant,
                source=site.source,
                kind=site.kind,
                tokens_before=site.tokens_before,
                tokens_after=site.tokens_after,
                form=choice.form if choice else site.own_form,
                reason=choice.reason if choice else "written so: one form for every target",
                costs_ns=choice.costs_ns if choice else {},
                macs_saved=site.macs_saved,
                share_saved=site.macs_saved / unmerged if unmerged else 0.0,
            )
        )
    return tuple(rows)
