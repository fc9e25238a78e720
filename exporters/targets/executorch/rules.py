"""Operators that ExecuTorch's runtime has no kernel for, or none for integers of some width."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.written_out import WrittenOut
from tm_export.exporters.targets.shared.functions import FORMULAS, hardswish, rounded_to
from tm_export.exporters.targets.shared.integers import SHIFTS
from tm_export.exporters.targets.shared.padding import EXECUTORCH_PADDING
from tm_export.exporters.targets.shared.resizing import ResizeByProducts

aten = torch.ops.aten

_LACKING: Final = (
    aten.hypot.default,
    aten.copysign.Tensor,
    aten.erfc.default,
    aten.special_erfc.default,
    aten.exp2.default,
    aten.special_exp2.default,
    aten.signbit.default,
)

FUNCTIONS: Final = WrittenOut(
    "executorch::functions", {**{op: FORMULAS[op] for op in _LACKING}, aten.round.decimals: rounded_to}
)
"""Functions of each number."""


SINGLE_NUMBERS: Final = WrittenOut(
    "executorch::single_numbers",
    {aten.hardswish.default: hardswish},
    unless=lambda node: "an array" if value_of(node).dim() else "",
)
"""What the delegate alone has, of single numbers, which it does not get."""


def _bytes_within(x: Tensor, least: int | None, most: int | None) -> Tensor:
    """Bounds wrap around, as they do in eager: −1 is 255."""
    low, high = (None if bound is None else bound & 255 for bound in (least, most))
    return x.to(torch.int32).clamp(low, high).to(x.dtype)


BYTES: Final = WrittenOut(
    "executorch::bytes",
    {aten.clamp.default: _bytes_within},
    unless=lambda node: "" if value_of(node).dtype == torch.uint8 else "no bytes",
)
"""Bounds that a byte does not hold: the kernel fails (error 0x12)."""


EXECUTORCH_RULES: Final = (
    FUNCTIONS,
    SINGLE_NUMBERS,
    BYTES,
    SHIFTS,
    EXECUTORCH_PADDING,
    ResizeByProducts(),
)
