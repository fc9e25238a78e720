"""Count multiply-adds of a program's matrix products and convolutions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import fx
from torch.export import ExportedProgram

from tm_export.exporters.graph.nodes import arguments, value_of
from tm_export.exporters.graph.token_axis import Axis, einsum_letters

aten = torch.ops.aten


@dataclass(frozen=True)
class Product:
    """A matrix product [batch, rows, inner] × [batch, inner, columns].

    `sides` are the dimensions of values that it grows with, each once, but for those that are a weight's.
    """

    batch: int
    rows: int
    inner: int
    columns: int
    sides: tuple[Axis, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return self.batch * self.rows * self.inner * self.columns


def products_of(node: fx.Node) -> list[Product]:
    """The matrix products that a node computes; a convolution counts as one; most nodes compute none."""
    if node.op != "call_function" or node.target not in _MATRIX_OPS:
        return []
    if node.target is aten.einsum.default:
        return _einsum_product(node)
    shapes = [tuple(value_of(a).shape) if isinstance(a, fx.Node) else () for a in arguments(node)]
    out = tuple(value_of(node).shape)
    own = tuple((node, dim) for dim in range(len(out)))
    if node.target is aten.linear.default:
        columns, inner = shapes[1]
        return [Product(1, math.prod(out) // columns, inner, columns, own[:-1])]
    if node.target is aten.addmm.default:
        return [Product(1, out[0], shapes[1][1], out[1], (*own, *_inner(arguments(node)[1])))]
    if node.target in (aten.matmul.default, aten.bmm.default, aten.mm.default, aten.baddbmm.default):
        left = shapes[1] if node.target is aten.baddbmm.default else shapes[0]
        rows = left[-2] if len(left) > 1 else 1
        columns = out[-1] if out and len(shapes[1]) > 1 else 1
        factor = arguments(node)[1 if node.target is aten.baddbmm.default else 0]
        return [Product(math.prod(out) // (rows * columns), rows, left[-1], columns, (*own, *_inner(factor)))]
    if node.target is aten.scaled_dot_product_attention.default:
        *batch, rows, inner = shapes[0]
        keys, values = shapes[1][-2], shapes[2][-1]
        sides = (*own[:-1], (arguments(node)[1], len(shapes[1]) - 2))
        return [
            Product(math.prod(batch), rows, inner, keys, sides),
            Product(math.prod(batch), rows, keys, values, sides),
        ]
    weight = shapes[1]  # a convolution: one product per output position
    return [Product(1, math.prod(out) // weight[0], math.prod(weight[1:]), weight[0])]


def _einsum_product(node: fx.Node) -> list[Product]:
    """One product for two operands: letters that both and the result have count the batch, and so on."""
    letters, operands = einsum_letters(node), arguments(node)[1]
    if letters is None or len(operands) != 2:
        return []
    (left, right), result = letters
    sizes = dict(zip(left + right, (*value_of(operands[0]).shape, *value_of(operands[1]).shape), strict=True))
    batch = math.prod(sizes[x] for x in set(left) & set(right) & set(result))
    rows = math.prod(sizes[x] for x in set(left) - set(right))
    columns = math.prod(sizes[x] for x in set(right) - set(left))
    inner = (set(left) & set(right)) - set(result)
    sides = [(node, dim) for dim in range(len(result))] + [(operands[0], left.index(x)) for x in sorted(inner)]
    return [Product(batch, rows, math.prod(sizes[x] for x in inner), columns, tuple(sides))]


def _inner(factor: fx.Node) -> tuple[Axis, ...]:
    """The dimension that a product sums over, in its left factor."""
    return ((factor, value_of(factor).dim() - 1),)


def count_macs(program: ExportedProgram) -> int:
    """Multiply-adds of all matrix products and convolutions."""
    return sum(product.macs for node in program.graph.nodes for product in products_of(node))


_MATRIX_OPS = {
    aten.linear.default, aten.addmm.default, aten.matmul.default, aten.bmm.default, aten.mm.default,
    aten.baddbmm.default, aten.scaled_dot_product_attention.default, aten.conv1d.default, aten.conv2d.default,
    aten.conv3d.default, aten.convolution.default, aten.einsum.default,
}  # fmt: skip
