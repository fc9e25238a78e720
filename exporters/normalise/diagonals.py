"""Diagonals: rows by a constant index, and a choice by a constant mask."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from tm_export.exporters.arguments import from_front
from tm_export.exporters.rules.written_out import WrittenOut

aten = torch.ops.aten


def _places(rows: int, columns: int, offset: int) -> tuple[int, int, int]:
    """Where a diagonal begins in a matrix, its row and column, and how long it is."""
    row, column = max(-offset, 0), max(offset, 0)
    return row, column, max(min(rows - row, columns - column), 0)


def _to_last(rank: int, dim1: int, dim2: int) -> list[int]:
    """The permutation that puts these dimensions last."""
    ends = [from_front(dim1, rank), from_front(dim2, rank)]
    return [d for d in range(rank) if d not in ends] + ends


def _inverse(order: list[int]) -> list[int]:
    return [order.index(d) for d in range(len(order))]


def _diagonal(x: Tensor, offset: int, dim1: int, dim2: int) -> Tensor:
    last = x.permute(_to_last(x.dim(), dim1, dim2))
    rows, columns = last.shape[-2:]
    row, column, length = _places(rows, columns, offset)
    steps = torch.arange(length)
    flat = last.reshape(*last.shape[:-2], rows * columns)
    return flat.index_select(-1, (steps + row) * columns + steps + column)


def _diagonal_scatter(x: Tensor, source: Tensor, offset: int, dim1: int, dim2: int) -> Tensor:
    order = _to_last(x.dim(), dim1, dim2)
    last = x.permute(order)
    rows, columns = last.shape[-2:]
    row, column, length = _places(rows, columns, offset)
    if not length:
        return x
    at_row = (torch.arange(rows) - row).clamp(0, length - 1)
    spread = source if length == rows else source.index_select(-1, at_row)
    down, across = torch.arange(rows)[:, None] - row, torch.arange(columns) - column
    inside = (down == across) & (down >= 0)
    return torch.where(inside, spread.unsqueeze(-1).to(x.dtype), last).permute(_inverse(order))


def _diag_embed(x: Tensor, offset: int, dim1: int, dim2: int) -> Tensor:
    size = x.shape[-1] + abs(offset)
    order = _to_last(x.dim() + 1, dim1, dim2)
    zeros = torch.zeros(*x.shape[:-1], size, size, dtype=x.dtype).permute(_inverse(order))
    return _diagonal_scatter(zeros, x, offset, dim1, dim2)


def _diag(x: Tensor, offset: int) -> Tensor:
    return _diag_embed(x, offset, -2, -1) if x.dim() == 1 else _diagonal(x, offset, 0, 1)


def _trace(x: Tensor) -> Tensor:
    return _diagonal(x, 0, 0, 1).sum()


DIAGONALS: Final = WrittenOut(
    "normalise::diagonals",
    {
        aten.diagonal.default: _diagonal,
        aten.diagonal_copy.default: _diagonal,
        aten.diagonal_scatter.default: _diagonal_scatter,
        aten.diag_embed.default: _diag_embed,
        aten.diag.default: _diag,
        aten.trace.default: _trace,
    },
)
