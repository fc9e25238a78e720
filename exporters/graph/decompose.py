"""Take apart operators that a target does not know, and only those."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch._ops import OpOverload
from torch.export import ExportedProgram


def decompose(program: ExportedProgram, knows: Callable[[OpOverload], bool]) -> ExportedProgram:
    """Return the program with every operator that the target does not know written in simpler ones.

    Operators that nobody can take apart further stay; the target then refuses them by name.
    """
    table = torch.export.default_decompositions()
    for _ in range(8):  # an operator may come apart into others that are not known either
        unknown = {
            node.target
            for node in program.graph.nodes
            if isinstance(node.target, OpOverload) and not knows(node.target)
        }
        needed = {op: table[op] for op in unknown if op in table}
        if not needed:
            break
        program = program.run_decompositions(needed)
    return program
