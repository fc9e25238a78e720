"""Choose a form for each group of merges, and lower a raised program by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx
from torch.export import ExportedProgram

from tm_export.exporters.errors import UsageError
from tm_export.exporters.graph.constants import fold_constants
from tm_export.exporters.lowering.cost import CostModel
from tm_export.exporters.lowering.form import Form
from tm_export.exporters.lowering.lower import lower
from tm_export.exporters.merging.sites import groups_of
from tm_export.exporters.merging.work import Work, work_of
from tm_export.exporters.options import ExportOptions


@dataclass(frozen=True)
class Choice:
    """The form of a group of dialect operations, why, and what each form would cost (nanoseconds)."""

    form: str
    reason: str
    costs_ns: Mapping[str, float]


def choose(work: Work, costs: CostModel, options: ExportOptions, *, half: bool) -> Choice:
    """The form for one site's work."""
    estimates = {form: round(costs.nanoseconds(form, work), 1) for form in costs.forms}
    if options.merge_lowering != "auto":
        if options.merge_lowering not in costs.forms:
            known = ", ".join(costs.forms)
            raise UsageError(f"{costs.name} has no merge lowering {options.merge_lowering!r}: choose auto, {known}")
        return Choice(options.merge_lowering, "as asked for by --merge-lowering", estimates)
    form = costs.cheapest(work, half=half)
    others = ", ".join(f"{name} {ns / 1000:.0f}" for name, ns in estimates.items() if name != form)
    reason = f"cheapest on {costs.name}: {estimates[form] / 1000:.0f} µs" + (f" ({others})" if others else "")
    return Choice(form, reason, estimates)


def lower_merges(program: ExportedProgram, costs: CostModel, options: ExportOptions, *, half: bool) -> ExportedProgram:
    """Lower a raised program, each group of operations in its own form."""
    forms: dict[fx.Node, Form] = {}
    for group in groups_of(program):
        form = costs.forms[choose(work_of(group), costs, options, half=half).form]
        forms |= dict.fromkeys(group, form)
    return fold_constants(lower(program, forms), options.seed)
