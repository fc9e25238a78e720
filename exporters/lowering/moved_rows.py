"""Rows of one tensor that are chosen, and perhaps added to, not yet copied.

A merge gathers the rows that stay, adds others to the rows of the second half, and puts the two parts together. Taken
one by one that is three copies of nearly everything; where all parts come from one tensor it is a single copy, of the
rows of both parts, and the additions follow on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from tm_export.exporters.lowering.gather_form import GatherForm
from tm_export.exporters.lowering.selection import Selection, joined


@dataclass(frozen=True)
class Addition:
    """Source rows that are reduced into selected rows, as in the dialect's `scatter_rows`."""

    selection: Selection
    src_BKC: Tensor
    reduce: str
    include_base: bool


@dataclass(frozen=True)
class MovedRows:
    """Rows of `x_BNC`, with what is added to them, in one of the forms that copy rows by index."""

    x_BNC: Tensor
    selection: Selection
    form: GatherForm
    additions: tuple[Addition, ...] = ()

    @cached_property
    def _rows(self) -> Tensor:
        """Copy the rows, then add."""
        rows = self.form.gather(self.x_BNC, self.selection)
        for addition in self.additions:
            rows = self.form.scatter(rows, addition.selection, addition.src_BKC, addition.reduce, addition.include_base)
        return rows

    def tensor(self) -> Tensor:
        """The rows, which are computed once."""
        return self._rows

    def plus(self, addition: Addition) -> MovedRows:
        """The same rows with more added to them."""
        return MovedRows(self.x_BNC, self.selection, self.form, (*self.additions, addition))


def side_by_side(parts: Sequence[MovedRows]) -> MovedRows | None:
    """The rows of all parts, one part after the other; None where that is not one copy."""
    first, total = parts[0], sum(part.selection.rows for part in parts)
    if any(part.x_BNC is not first.x_BNC or part.form is not first.form for part in parts):
        return None
    additions, start = [], 0
    for part in parts:
        for addition in part.additions:
            if addition.src_BKC.shape[1] > first.form.max_sources or not is_sum(addition):
                return None
            shifted = addition.selection.shifted(start, total)
            additions.append(Addition(shifted, addition.src_BKC, addition.reduce, addition.include_base))
        start += part.selection.rows
    return MovedRows(first.x_BNC, joined([part.selection for part in parts]), first.form, tuple(additions))


def is_sum(addition: Addition) -> bool:
    """Whether rows that nothing is added to stay as they are, and cost little."""
    return addition.include_base and addition.reduce in ("sum", "mean")
