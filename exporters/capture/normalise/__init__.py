"""What happens to a captured program before its merges are recognised, once for all targets."""

from __future__ import annotations

from typing import Any, Final

from torch import fx
from torch.export import ExportedProgram

from tm_export.exporters.capture.normalise.complex_numbers import complex_as_pairs
from tm_export.exporters.capture.normalise.diagonals import DIAGONALS, EINSUM_DIAGONALS
from tm_export.exporters.capture.normalise.formulas import EXTREMES, FORMULAS
from tm_export.exporters.capture.normalise.masked_writes import ScatterInOrder, WriteByChoice
from tm_export.exporters.capture.normalise.memory import MEMORY
from tm_export.exporters.capture.normalise.names import rename_inputs
from tm_export.exporters.capture.normalise.pools import STRIDES
from tm_export.exporters.capture.normalise.promotion import (
    ADDED_NUMBERS,
    CONCATENATIONS,
    COPIES,
    MEANS,
    SUMS,
    TRUTH_SUMS,
    WRITES,
)
from tm_export.exporters.capture.normalise.running import RUNNING, SUMS_OF_ONE
from tm_export.exporters.capture.normalise.searches import KTH, QUANTILES, SEARCHES
from tm_export.exporters.capture.normalise.whole_numbers import ANGLES, BOUNDS, FUNCTIONS, SIGNS, WHOLE_NUMBERS
from tm_export.exporters.capture.normalise.widths import widen
from tm_export.exporters.capture.normalise.wrapping import WRAPPED_INDICES
from tm_export.exporters.graph.rule import No, Rule, apply_rules

WRITTEN_OUT: Final[tuple[Rule[Any], ...]] = (
    WriteByChoice(),
    ScatterInOrder(),
    DIAGONALS,
    EINSUM_DIAGONALS,
    MEMORY,
    WRAPPED_INDICES,
    SEARCHES,
    KTH,
    QUANTILES,
    RUNNING,
    SUMS_OF_ONE,
    CONCATENATIONS,
    SUMS,
    MEANS,
    TRUTH_SUMS,
    WRITES,
    COPIES,
    WHOLE_NUMBERS,
    FUNCTIONS,
    SIGNS,
    STRIDES,
    ANGLES,
    BOUNDS,
    ADDED_NUMBERS,
    FORMULAS,
    EXTREMES,
)


def _write_out(program: ExportedProgram) -> ExportedProgram:
    return apply_rules(program, WRITTEN_OUT)[0] if any(map(_is_written_out, program.graph.nodes)) else program


def _is_written_out(node: fx.Node) -> bool:
    rules = (rule for rule in WRITTEN_OUT if node.target in rule.pattern)
    return any(not isinstance(rule.check(node), No) for rule in rules)


_PASSES: Final = (
    rename_inputs,  # first, since every pass copies the graph
    widen,
    complex_as_pairs,
    _write_out,  # formulas are of 32 bits
)


def normalise(program: ExportedProgram) -> ExportedProgram:
    """Return the program in what all targets have, computing the same.

    Floats have 32 bits, complex numbers are two of them, and inputs have names that a graph can keep. Writes through
    masks, diagonals, searches and distances are in operators that all targets have.
    """
    for each in _PASSES:
        program = each(program)
    return program
