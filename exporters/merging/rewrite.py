"""Rewrite: raise a captured program to the merge dialect, choose a form for each site, and lower it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind, OutputSpec, TensorArgument

from tm_export.exporters.errors import UsageError
from tm_export.exporters.graph.constants import fold_constants
from tm_export.exporters.graph.retrace import arguments, with_graph
from tm_export.exporters.graph.rule import Firing, apply_rules
from tm_export.exporters.lowering.cost import CostModel, Work
from tm_export.exporters.lowering.form import Form
from tm_export.exporters.lowering.lower import lower
from tm_export.exporters.merging.raising import raising_rules
from tm_export.exporters.merging.sites import Site, decisions_of, find_sites, groups_of, work_of
from tm_export.exporters.options import ExportOptions


@dataclass(frozen=True)
class Choice:
    """The form of a group of dialect operations, why, and what each form would cost (nanoseconds)."""

    form: str
    reason: str
    costs_ns: Mapping[str, float]


@dataclass(frozen=True)
class Raised:
    """A program in the merge dialect, its sites, and what each rule did where."""

    program: ExportedProgram
    sites: tuple[Site, ...]
    firings: tuple[Firing, ...]


def raise_merges(program: ExportedProgram, seed: int) -> Raised:
    """Recognise what merges tokens, however it is written."""
    raised, firings = apply_rules(program, raising_rules())
    raised = fold_constants(raised, seed)
    return Raised(raised, tuple(find_sites(raised)), tuple(firings))


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


def expose_decisions(program: ExportedProgram) -> ExportedProgram:
    """The same program with every decision as a further output, for verification."""
    program = copy.deepcopy(program)
    decisions = decisions_of(program)
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    output.args = ((*arguments(output)[0], *decisions),)
    specs = [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(node.name), None) for node in decisions]
    return with_graph(
        program,
        program.graph_module,
        program.graph_signature.input_specs,
        [*program.graph_signature.output_specs, *specs],
    )
