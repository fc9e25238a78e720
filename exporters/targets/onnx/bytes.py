"""Integers of 8 and 16 bits, for which ONNX has few operators: computed in 32 bits, and wrapped where PyTorch's are."""

from __future__ import annotations

from typing import Any, Final

import torch
import torch.utils._pytree as pytree
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.export import ExportedProgram

from tm_export.exporters.graph.retrace import KEEP, Values, retrace
from tm_export.exporters.targets.coreml.integers import KEEPING, has_narrow, wide, with_wrapped_numbers

aten = torch.ops.aten

_COMPARING: Final = frozenset({
    aten.maximum.default, aten.minimum.default, aten.amax.default, aten.amin.default, aten.max.dim, aten.min.dim,
    aten.topk.default, aten.sort.default,
})  # fmt: skip
_AS_THEY_ARE: Final = (KEEPING - _COMPARING) | {aten.to.dtype, aten._to_copy.default}
"""Moves and conversions, which ONNX has for numbers of every width."""


def with_wide_bytes(program: ExportedProgram) -> ExportedProgram:
    """Compute in int32 what ONNX does not compute in fewer bits; a cast back wraps around as PyTorch's does."""
    if not any(map(has_narrow, program.graph.nodes)):
        return program

    def translate(node: fx.Node, values: Values) -> Any:
        is_narrow = any(map(has_narrow, (node, *node.all_input_nodes)))
        if node.op != "call_function" or not is_narrow or node.target in _AS_THEY_ARE:
            return KEEP
        if not isinstance(node.target, OpOverload):
            return KEEP
        given = pytree.tree_map(wide, values(with_wrapped_numbers(node)))
        return pytree.tree_map(_narrowed, node.target(**given), node.meta["val"])

    return retrace(program, translate)


def _narrowed(made: Any, was: Any) -> Any:
    return made.to(was.dtype) if isinstance(was, Tensor) else made
