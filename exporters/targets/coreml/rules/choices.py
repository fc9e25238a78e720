"""Choices and clamps between tensors and numbers, and tensors of nothing but a shape."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.written_out import WrittenOut, as_tensor

aten = torch.ops.aten


def _where(condition: Tensor, x: Any, y: Any) -> Tensor:
    dtype = torch.result_type(x, y)
    x, y = as_tensor(x, dtype), as_tensor(y, dtype)
    is_single = condition.dim() == x.dim() == y.dim() == 0
    operands = [each.unsqueeze(0) if is_single else each for each in (condition, x, y)]
    made: Tensor = aten.where.self(*operands)
    return made.squeeze(0) if is_single else made


def _is_between_tensors(node: fx.Node) -> str:
    given = bound_arguments(node)
    operands = [given[name].meta["val"] for name in ("self", "other") if isinstance(given[name], fx.Node)]
    same = len(operands) == 2 and operands[0].dtype == operands[1].dtype
    return "tensors of one dtype" if same and value_of(node).dim() else ""


CHOICES: Final = WrittenOut(
    "coreml::choices",
    dict.fromkeys((aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf, aten.where.Scalar), _where),
    unless=_is_between_tensors,
)
"""`where` of numbers and of single ones: coremltools wants one dtype, and cannot write a shape without entries."""


def _clamped(x: Tensor, lower: Tensor | None, upper: Tensor | None) -> Tensor:
    dtype = x.dtype
    for bound in (lower, upper):
        dtype = dtype if bound is None else torch.promote_types(dtype, bound.dtype)
    x = as_tensor(x, dtype)
    x = x if lower is None else torch.maximum(x, as_tensor(lower, dtype))
    return x if upper is None else torch.minimum(x, as_tensor(upper, dtype))


CLAMPS: Final = WrittenOut("coreml::clamps", {aten.clamp.Tensor: _clamped})
"""A clamp between tensors."""


def _filled(shape: list[int], value: float, like: fx.Node | Tensor, dtype: torch.dtype | None) -> Tensor:
    assert isinstance(like, Tensor)
    return torch.full(shape, value, dtype=dtype or like.dtype)


def _new_zeros(x: Tensor, size: list[int], dtype: torch.dtype | None, *_: Any) -> Tensor:
    return _filled(size, 0, x, dtype)


def _new_ones(x: Tensor, size: list[int], dtype: torch.dtype | None, *_: Any) -> Tensor:
    return _filled(size, 1, x, dtype)


def _new_full(x: Tensor, size: list[int], value: float, dtype: torch.dtype | None, *_: Any) -> Tensor:
    return _filled(size, value, x, dtype)


NEW_TENSORS: Final = WrittenOut(
    "coreml::new_tensors",
    {
        aten.new_zeros.default: _new_zeros,
        aten.new_empty.default: _new_zeros,
        aten.new_ones.default: _new_ones,
        aten.new_full.default: _new_full,
    },
)
"""Tensors that are made of nothing but a shape read no input: they are folded."""


def _same(x: Tensor) -> Tensor:
    return x


OTHER_NAMES: Final = WrittenOut(
    "coreml::other_names",
    {aten.alias.default: _same, aten.detach.default: _same, aten.lift_fresh_copy.default: _same},
)
"""The same tensor under another name."""
