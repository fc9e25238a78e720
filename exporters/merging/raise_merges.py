"""Raise a captured program to the merge dialect."""

from __future__ import annotations

from dataclasses import dataclass

from torch.export import ExportedProgram

from tm_export.exporters.graph.constants import fold_constants
from tm_export.exporters.graph.rule import Firing, apply_rules
from tm_export.exporters.merging.raising import raising_rules
from tm_export.exporters.merging.sites import Site, find_sites


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
