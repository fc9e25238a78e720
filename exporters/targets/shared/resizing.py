"""Resizing in the modes that Core ML and ExecuTorch lack: a product with a constant matrix along each dimension."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule

aten = torch.ops.aten

_RESIZES: Final = {
    aten.upsample_linear1d.vec: 1,
    aten.upsample_bilinear2d.vec: 2,
    aten.upsample_trilinear3d.vec: 3,
    aten.upsample_bicubic2d.vec: 2,
    aten.upsample_nearest1d.vec: 1,
    aten.upsample_nearest2d.vec: 2,
    aten.upsample_nearest3d.vec: 3,
    aten._upsample_nearest_exact1d.vec: 1,
    aten._upsample_nearest_exact2d.vec: 2,
    aten._upsample_nearest_exact3d.vec: 3,
    aten._upsample_bilinear2d_aa.vec: 2,
    aten._upsample_bicubic2d_aa.vec: 2,
    aten.upsample_linear1d.default: 1,
    aten.upsample_bilinear2d.default: 2,
    aten.upsample_trilinear3d.default: 3,
    aten.upsample_bicubic2d.default: 2,
    aten.upsample_nearest1d.default: 1,
    aten.upsample_nearest2d.default: 2,
    aten.upsample_nearest3d.default: 3,
    aten._upsample_nearest_exact1d.default: 1,
    aten._upsample_nearest_exact2d.default: 2,
    aten._upsample_nearest_exact3d.default: 3,
    aten._upsample_bilinear2d_aa.default: 2,
    aten._upsample_bicubic2d_aa.default: 2,
    aten._adaptive_avg_pool3d.default: 3,
    aten.adaptive_avg_pool3d.default: 3,
}
"""Operators that are linear in each of their last dimensions by itself, and how many these are."""


class ResizeByProducts(Rule[int]):
    """Replaces a resize by a product along each of its dimensions.

    What the operator does along one is learned from itself: the rows of the matrix are what it makes of the columns
    of the identity. So every mode, scale and rounding is PyTorch's own. The matrix follows from sizes and is folded.

    Before::

        upsample_bicubic2d(x_BCHW, [h, w])

    After::

        matrix_hH · x_BCHW · matrix_wWᵀ
    """

    name = "resize_by_products"
    pattern = frozenset(_RESIZES)

    def check(self, node: fx.Node) -> int | No:
        """Unless the targets' own operators do the same."""
        if not _follows_from_an_input(node):
            return No("is folded")
        if _is_native(node):
            return No("there is an operator for it")
        return _RESIZES[node.target]  # type: ignore[index]

    def rewrite(self, node: fx.Node, match: int, values: Values) -> Any:
        """One product for each dimension."""
        x: Tensor = values(bound_arguments(node)["self" if "self" in bound_arguments(node) else "input"])
        for dim in range(match):
            axis = x.dim() - match + dim
            matrix = _matrix(node, dim, match, x.shape[axis])
            x = torch.matmul(x.transpose(axis, -1), matrix.t()).transpose(axis, -1)
        return x


def _follows_from_an_input(node: fx.Node) -> bool:
    """Whether a value is no mere constant: such as the matrices are made of."""
    seen, ahead = {node}, [node]
    while ahead:
        behind = ahead.pop()
        if behind.op == "placeholder":
            return True
        ahead += [each for each in behind.all_input_nodes if each not in seen]
        seen |= set(behind.all_input_nodes)
    return False


def _is_native(node: fx.Node) -> bool:
    """Whether Core ML and ExecuTorch have it rightly: bilinear or nearest, of images, to a whole multiple or a size."""
    given = bound_arguments(node)
    called = str(node.target)
    if value_of(node).dim() != 4 or "_aa" in called or "exact" in called or "bicubic" in called:
        return False
    if "nearest2d" not in called and "upsample_bilinear2d" not in called:
        return False
    scales = given.get("scale_factors") or [given.get("scales_h"), given.get("scales_w")]
    if "nearest" in called:
        source = next(iter(node.all_input_nodes))
        sizes = zip(value_of(node).shape[-2:], value_of(source).shape[-2:], strict=True)
        return all(made % had == 0 for made, had in sizes)
    return all(scale is None or float(scale).is_integer() for scale in scales)


def _matrix(node: fx.Node, dim: int, dims: int, size: int) -> Tensor:
    """What the operator does along one of its dimensions: [made, had].

    The columns of the identity lie along another of its dimensions, which keeps its size, or along the channels.
    """
    assert isinstance(node.target, OpOverload)
    given = bound_arguments(node)
    columns = next((i for i in range(dims) if i != dim), None)
    sizes = [size if i in (dim, columns) else 1 for i in range(dims)]
    made = [value_of(node).shape[i - dims] if i == dim else sizes[i] for i in range(dims)]
    identity = torch.eye(size).reshape([1, size if columns is None else 1, *sizes])
    arguments: dict[str, Any] = {**given, next(iter(given)): identity}
    if given.get("output_size") is not None:
        arguments["output_size"] = made
    if given.get("scale_factors") is not None:
        arguments["scale_factors"] = [given["scale_factors"][i] if i == dim else 1.0 for i in range(dims)]
    for i, letter in enumerate("dhw"[-dims:]):
        if f"scales_{letter}" in given and i != dim:
            arguments[f"scales_{letter}"] = None
    resized: Tensor = node.target(*arguments.values())
    if columns is None or columns < dim:
        return resized.reshape(size, made[dim]).t()
    return resized.reshape(made[dim], size)
