"""Truth values where Core ML takes numbers only."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule
from tm_export.exporters.graph.written_out import WrittenOut

aten = torch.ops.aten

_MOVES: Final = frozenset({
    aten.gather.default, aten.index.Tensor, aten.index_select.default, aten.index_put.default, aten.scatter.src,
    aten.scatter.value, aten.sort.default, aten.sort.stable, aten.topk.default, aten.max.dim, aten.min.dim,
    aten.amax.default, aten.amin.default, aten.cumsum.default, aten.tril.default, aten.triu.default, aten.roll.default,
    aten.flip.default, aten.repeat.default, aten.masked_fill.Scalar, aten.masked_fill.Tensor, aten.index_copy.default,
    aten.select_scatter.default, aten.slice_scatter.default, aten.embedding.default, aten.take_along_dim.default,
    aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf, aten.where.Scalar, aten.repeat_interleave.self_int,
    aten.tile.default, aten.rot90.default, aten.index_fill.int_Scalar, aten.argsort.default, aten.argsort.stable,
    aten.max.default, aten.min.default, aten.maximum.default, aten.minimum.default,
    aten.ge.Tensor, aten.gt.Tensor, aten.le.Tensor, aten.lt.Tensor,
    aten.ge.Scalar, aten.gt.Scalar, aten.le.Scalar, aten.lt.Scalar,
})  # fmt: skip
"""Operators that move, order or compare entries, which MIL defines for numbers alone."""


class TruthValuesAsNumbers(Rule[None]):
    """Replaces the moving of truth values by that of 0 and 1, and a comparison behind it."""

    name = "coreml::truth_values_as_numbers"
    pattern = _MOVES

    def check(self, node: fx.Node) -> No | None:
        """Where what is moved are truth values; a mask may stay one."""
        moved = node.args[1:] if "where" in str(node.target) else node.args[:1]
        values = [arg.meta["val"] for arg in moved if isinstance(arg, fx.Node)]
        return None if any(isinstance(v, Tensor) and v.dtype == torch.bool for v in values) else No("numbers")

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """The same of int32; what comes out as truth values is compared with 0."""
        is_choice = "where" in str(node.target)
        first = 1 if is_choice else 0
        is_mask = "masked_fill" in str(node.target)
        kept = range(1, 2) if is_mask else range(0)
        args = [arg if i < first or i in kept else _as_number(arg) for i, arg in enumerate(values(tuple(node.args)))]
        made = node.target(*args, **values(dict(node.kwargs)))  # type: ignore[operator]
        was = node.meta["val"]
        if isinstance(made, Tensor):
            return made != 0 if value_of(node).dtype == torch.bool else made.to(value_of(node).dtype)
        return tuple(m != 0 if w.dtype == torch.bool else m for m, w in zip(made, was, strict=True))


def _as_number(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype == torch.bool:
        return value.to(torch.int32)
    return int(value) if isinstance(value, bool) else value


def _any(x: Tensor, *rest: Any) -> Tensor:
    return torch.any(x != 0, *rest)


def _all(x: Tensor, *rest: Any) -> Tensor:
    return torch.all(x != 0, *rest)


def _is_of_truth_values(node: fx.Node) -> str:
    return "truth values" if value_of(node.all_input_nodes[0]).dtype == torch.bool else ""


WHETHER_NUMBERS: Final = WrittenOut(
    "coreml::whether_numbers",
    {
        **dict.fromkeys((aten.any.default, aten.any.dim, aten.any.dims), _any),
        **dict.fromkeys((aten.all.default, aten.all.dim, aten.all.dims), _all),
    },
    unless=_is_of_truth_values,
)
"""Whether any or all of some numbers are other than 0: coremltools multiplies or adds them up."""
