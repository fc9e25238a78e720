"""Finite constants beyond fp16's range, such as the lowest float32 in a mask, where Core ML computes in fp16."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from tm_export.exporters.graph.nodes import is_float
from tm_export.exporters.graph.retrace import with_graph

_LARGEST: Final = torch.finfo(torch.float16).max
_HIDDEN: Final = _LARGEST / 4
"""What stands for a number beyond the range: masks that are added to each other and to scores stay finite."""

aten = torch.ops.aten

_READERS: Final = frozenset({
    aten.masked_fill.Scalar, aten.where.ScalarOther, aten.where.ScalarSelf, aten.where.Scalar, aten.add.Tensor,
    aten.add.Scalar, aten.sub.Tensor, aten.sub.Scalar, aten.rsub.Scalar, aten.mul.Tensor, aten.mul.Scalar,
    aten.full.default, aten.full_like.default, aten.new_full.default, aten.scatter.value, aten.index_fill.int_Scalar,
    aten.constant_pad_nd.default,
})  # fmt: skip
"""Operators in whose arguments numbers are masks; a bound of a clamp is none."""


def within_half(program: ExportedProgram) -> ExportedProgram:
    """Bring finite constants into fp16's range: rounded they are infinite, and a row of them NaN after softmax."""
    for node in program.graph.nodes:
        if node.target in _READERS and is_float(node):
            node.args = fx.node.map_aggregate(node.args, _within)
            node.kwargs = fx.node.map_aggregate(node.kwargs, _within)
    signature = program.graph_signature
    kinds = (InputKind.CONSTANT_TENSOR, InputKind.BUFFER)
    names = {str(spec.target) for spec in signature.input_specs if spec.kind in kinds}
    saved = {name: _tensor_within(tensor) for name, tensor in program.state_dict.items() if name in names}
    for name in names & program.constants.keys():
        constant = program.constants[name]
        if isinstance(constant, Tensor):
            program.constants[name] = _tensor_within(constant)
    return with_graph(program, program.graph_module, signature.input_specs, signature.output_specs, saved)


def _within(value: Any) -> Any:
    if isinstance(value, float) and math.isfinite(value) and abs(value) > _LARGEST:
        return math.copysign(_HIDDEN, value)
    return value


def _tensor_within(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    is_beyond = tensor.isfinite() & (tensor.abs() > _LARGEST)
    return torch.where(is_beyond, tensor.sign() * _HIDDEN, tensor) if is_beyond.any() else tensor
