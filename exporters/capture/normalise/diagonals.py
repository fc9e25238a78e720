"""Diagonals: rows by a constant index, and a choice by a constant mask."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.written_out import WrittenOut

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


def _terms(equation: str) -> tuple[list[str], str]:
    """The letters of each operand, and of the result: unless it is given, those that stand once, in their order."""
    operands, arrow, result = equation.replace(" ", "").partition("->")
    once = sorted(letter for letter in set(operands) - {","} if operands.count(letter) == 1)
    return operands.split(","), result if arrow else "".join(once)


def _repeated(term: str) -> str:
    """The first letter that stands twice, or ""."""
    return next((letter for letter in term if letter.isalpha() and term.count(letter) > 1), "")


def _einsum_over_diagonals(equation: str, tensors: list[Tensor], path: list[int] | None) -> Tensor:
    """A letter that stands twice in one operand is its diagonal."""
    terms, result = _terms(equation)
    operands = list(tensors)
    for i, term in enumerate(terms):
        while letter := _repeated(term):
            first, second = (d for d, each in enumerate(term) if each == letter)
            operands[i] = _diagonal(operands[i], 0, first, second)
            term = term.replace(letter, "") + letter
        terms[i] = term
    return torch.einsum(f"{','.join(terms)}->{result}", *operands)


def _has_no_diagonal(node: fx.Node) -> str:
    terms, _ = _terms(bound_arguments(node)["equation"])
    is_plain = any("." in term or any(term.count(letter) > 2 for letter in term) for term in terms)
    return "no letter stands twice" if is_plain or not any(map(_repeated, terms)) else ""


EINSUM_DIAGONALS: Final = WrittenOut(
    "normalise::einsum_diagonals", {aten.einsum.default: _einsum_over_diagonals}, unless=_has_no_diagonal
)
