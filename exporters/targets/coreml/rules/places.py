"""Windows, rolls, and sums by index: what goes to which place."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.written_out import WrittenOut

aten = torch.ops.aten


def _windows(x: Tensor, dim: int, size: int, step: int) -> Tensor:
    """Sliding windows: rows by a constant index."""
    dim = from_front(dim, x.dim())
    count = (x.shape[dim] - size) // step + 1
    position = torch.arange(count)[:, None] * step + torch.arange(size)
    rows = x.index_select(dim, position.reshape(-1))
    split = rows.reshape(*x.shape[:dim], count, size, *x.shape[dim + 1 :])
    return split.permute(*range(dim + 1), *range(dim + 2, split.dim()), dim + 1)


WINDOWS: Final = WrittenOut("coreml::windows", {aten.unfold.default: _windows})
"""`x.unfold(dim, size, step)`."""


def _single(x: Tensor, _: list[int]) -> Tensor:
    return x.reshape(1).squeeze(0) if x.dim() != 1 else x.squeeze(0)


SINGLE_NUMBERS: Final = WrittenOut(
    "coreml::single_numbers",
    dict.fromkeys((aten.reshape.default, aten.view.default, aten._unsafe_view.default), _single),
    unless=lambda node: "" if value_of(node).dim() == 0 and value_of(node.all_input_nodes[0]).dim() else "an array",
)
"""An array of one number as that number: coremltools' reshape leaves it an array."""


def _rolled(x: Tensor, shifts: list[int], dims: list[int]) -> Tensor:
    return torch.roll(x.reshape(-1), shifts, [0]).reshape(x.shape)


ROLLS: Final = WrittenOut(
    "coreml::rolls",
    {aten.roll.default: _rolled},
    unless=lambda node: "along dimensions" if bound_arguments(node)["dims"] else "",
)
"""A roll of all entries in a row."""


def _added_along(x: Tensor, dim: int, index: Tensor, source: Tensor, alpha: float) -> Tensor:
    """Each row of the source is added to the row that its index names: as often as it is named."""
    dim = from_front(dim, x.dim())
    spread = index.reshape([-1 if i == dim else 1 for i in range(x.dim())]).expand(source.shape)
    return x.scatter_add(dim, spread, source if alpha == 1 else source * alpha)


def _added_at(x: Tensor, indices: list[Tensor | None], values: Tensor, _: bool) -> Tensor:
    """Sums at places that are named by an index for each of the first dimensions."""
    given = [index for index in indices if index is not None]
    shape = torch.broadcast_shapes(*(index.shape for index in given))  # type: ignore[no-untyped-call]
    first = [index.expand(shape) for index in given]
    flat, sizes = torch.zeros_like(first[0]), x.shape[: len(first)]
    for index, size in zip(first, sizes, strict=True):
        flat = flat * size + torch.where(index < 0, index + size, index)
    rest = x.shape[len(first) :]
    rows = x.reshape(sizes.numel(), rest.numel())
    source = values.expand(*flat.shape, *rest).reshape(flat.numel(), rest.numel())
    made = rows.scatter_add(0, flat.reshape(-1, 1).expand(source.shape), source)
    return made.reshape(x.shape)


def _is_a_write_or_scattered(node: fx.Node) -> str:
    given = bound_arguments(node)
    if node.target is aten.index_add.default:
        return ""
    if not given["accumulate"]:
        return "a write"
    return (
        ""
        if all(index is not None and value_of(index).dtype != torch.bool for index in given["indices"])
        else "not of rows"
    )


ADDITIONS: Final = WrittenOut(
    "coreml::additions",
    {aten.index_add.default: _added_along, aten.index_put.default: _added_at},
    unless=_is_a_write_or_scattered,
)
"""Sums by index, which coremltools takes as `scatter_add` alone."""


def _folded(
    x: Tensor, size: list[int], kernel: list[int], dilation: list[int], padding: list[int], stride: list[int]
) -> Tensor:
    """Windows put back where they were cut out, sums where they overlap: the inverse of `unfold`'s places."""
    height, width = (n + 2 * p for n, p in zip(size, padding, strict=True))
    rows, columns = (
        (torch.arange(k)[:, None] * d + torch.arange((n - d * (k - 1) - 1) // s + 1) * s)
        for k, d, n, s in zip(kernel, dilation, (height, width), stride, strict=True)
    )
    places = rows[:, None, :, None] * width + columns[None, :, None, :]
    channels = x.shape[-2] // (kernel[0] * kernel[1])
    values = x.reshape(-1, channels, places.numel())
    summed = torch.zeros(values.shape[0], channels, height * width).scatter_add(
        2, places.reshape(1, 1, -1).expand(values.shape), values
    )
    whole = summed.reshape(*x.shape[:-2], channels, height, width)
    return whole[..., padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]


FOLDS: Final = WrittenOut("coreml::folds", {aten.col2im.default: _folded})
"""`fold`, of windows that overlap too."""
