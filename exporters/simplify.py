"""Drop operators that do nothing: views to the shape a tensor has, slices of all of it, copies, casts to its dtype."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from tm_export.exporters.retrace import KEEP, Values, retrace, value_of

aten = torch.ops.aten

_SAME_IF_SAME_SHAPE: Final = {
    aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.expand.default, aten.slice.Tensor,
    aten.repeat.default, aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default,
}  # fmt: skip
_SAME_IF_SAME_DTYPE: Final = {
    aten.to.dtype, aten.to.dtype_layout, aten._to_copy.default, aten.alias.default, aten.clone.default,
    aten.contiguous.default, aten.detach.default, aten.detach_.default, aten.lift_fresh_copy.default,
    aten.dropout.default, aten.type_as.default, aten.to.device, aten.to.other,
}  # fmt: skip
_VIEWS: Final = {aten.view.default, aten.reshape.default, aten._unsafe_view.default}


def simplify(program: ExportedProgram) -> ExportedProgram:
    """Return the program without operators that change nothing, and with chains of views made one."""

    def translate(node: fx.Node, values: Values) -> Any:
        if node.op != "call_function" or not node.args or not isinstance(node.args[0], fx.Node):
            return KEEP
        source = node.args[0]
        if not isinstance(node.meta.get("val"), Tensor) or not isinstance(source.meta.get("val"), Tensor):
            return KEEP
        before, after = value_of(source), value_of(node)
        if node.target in _SAME_IF_SAME_SHAPE and before.shape == after.shape:
            return values(source)
        if node.target in _SAME_IF_SAME_DTYPE and before.dtype == after.dtype:
            return values(source)
        if node.target in _VIEWS:
            while source.target in _VIEWS:
                source = source.args[0]
            viewed = values(source)
            return viewed if viewed.shape == after.shape else viewed.reshape(after.shape)
        return KEEP

    return retrace(program, translate)
