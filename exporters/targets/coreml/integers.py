"""Integers of 8 and 16 bits, which Core ML computes in 32: as wide, and wrapped where PyTorch's overflow."""

from __future__ import annotations

from typing import Any, Final

import torch
import torch.utils._pytree as pytree
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.export import ExportedProgram

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.retrace import KEEP, Values, retrace
from tm_export.exporters.graph.simplify import simplified

_NARROW: Final = frozenset({torch.uint8, torch.int8, torch.int16, torch.uint16})

aten = torch.ops.aten

KEEPING: Final = frozenset({
    aten.view.default, aten.reshape.default, aten.permute.default, aten.transpose.int, aten.slice.Tensor,
    aten.select.int, aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.default, aten.expand.default,
    aten.clone.default, aten.flip.default, aten.gather.default, aten.index_select.default, aten.index.Tensor,
    aten.cat.default, aten.stack.default, aten.maximum.default, aten.minimum.default, aten.amax.default,
    aten.amin.default, aten.max.dim, aten.min.dim, aten.topk.default, aten.sort.default,
})  # fmt: skip
"""Operators whose results are among their operands: nothing leaves the range."""


def widened(program: ExportedProgram) -> ExportedProgram:
    """Compute in int32 what PyTorch computes in fewer bits.

    A sum of two bytes is 300 in 32 bits and 44 in 8: every result that was narrow is brought back into its range.
    """
    if not any(map(has_narrow, program.graph.nodes)):
        return program

    def translate(node: fx.Node, values: Values) -> Any:
        if not any(map(has_narrow, (node, *node.all_input_nodes))):
            return simplified(node, values)
        if node.op == "output":
            return KEEP
        assert isinstance(node.target, OpOverload)
        made = node.target(**pytree.tree_map(wide, values(with_wrapped_numbers(node))))
        if node.target in KEEPING:
            return made
        return pytree.tree_map(_wrapped, made, node.meta["val"])

    return retrace(program, translate)


def with_wrapped_numbers(node: fx.Node) -> dict[str, Any]:
    """A node's arguments, numbers beside a narrow tensor as PyTorch has them in its dtype: −1 among bytes is 255."""
    given = bound_arguments(node)
    beside = given.get("self")
    dtype = value_of(beside).dtype if isinstance(beside, fx.Node) else None
    for name in ("other", "min", "max"):
        number = given.get(name)
        if dtype is not None and dtype in _NARROW and isinstance(number, int) and not isinstance(number, bool):
            least, most = torch.iinfo(dtype).min, torch.iinfo(dtype).max
            given[name] = (number - least) % (most - least + 1) + least
    return given


def has_narrow(node: fx.Node) -> bool:
    """Whether a node gives such integers."""
    values = pytree.tree_leaves(node.meta.get("val"))
    return any(isinstance(value, Tensor) and value.dtype in _NARROW for value in values)


def wide(value: Any) -> Any:
    """A narrow tensor in 32 bits; a narrow dtype among the arguments likewise."""
    if isinstance(value, Tensor):
        return value.to(torch.int32) if value.dtype in _NARROW else value
    return torch.int32 if value in _NARROW else value


def _wrapped(made: Any, was: Any) -> Any:
    """Bring a result into the range that it had: floor-modulo, by arithmetic that Core ML has."""
    if not isinstance(was, Tensor):
        return made
    if was.dtype not in _NARROW:
        return made.to(was.dtype)
    bounds = torch.iinfo(was.dtype)
    size = bounds.max - bounds.min + 1
    from_zero = made.to(torch.int32) - bounds.min
    return from_zero - torch.floor_divide(from_zero, torch.full((), size, dtype=torch.int32)) * size + bounds.min
