"""Raise indexing by tensors (`x[b, index]`, index_select, index_put, index_add, index_copy) to rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from tm_export.exporters.constants import constant_of
from tm_export.exporters.dialect import gather_rows, scatter_rows
from tm_export.exporters.retrace import Values, arguments, is_float, value_of
from tm_export.exporters.rules.base import No, Rule
from tm_export.exporters.rules.rows import as_rows

aten = torch.ops.aten


@dataclass(frozen=True)
class Indexed:
    """Rows along `dim` are meant, at `index`: [K] for all batches alike, or [B, K] one row of indices a batch."""

    dim: int
    index: fx.Node
    per_batch: bool

    def rows(self, values: Values, batch: int, size: int) -> Tensor:
        """The index as [B, K], counted from the front."""
        index: Tensor = values(self.index).to(torch.int64)
        if _may_be_negative(self.index):
            index = torch.where(index < 0, index + size, index)
        return index.reshape(batch if self.per_batch else 1, -1).expand(batch, -1)


def _may_be_negative(index: fx.Node) -> bool:
    """Whether an index can count from the end: what the user's arithmetic made can, a decision cannot."""
    constant = constant_of(index)
    if constant is not None:
        return bool((constant < 0).any())
    if index.target in (
        aten.sub.Tensor,
        aten.sub.Scalar,
        aten.rsub.Scalar,
        aten.neg.default,
        aten.add.Tensor,
    ):
        return True
    return any(_may_be_negative(source) for source in index.all_input_nodes if not is_float(source))


class RaiseIndexSelect(Rule[Indexed]):
    """Replaces selection of rows with advanced indexing or index_select.

    Before::

        rows = x[arange(B)[:, None], index_BK]        rows = index_select(x, dim, index_K)

    After::

        rows = gather_rows(x_BNC, index_BK)

    An index known at export is left alone: every target selects by a constant.
    """

    name = "merge::raise_index_select"
    pattern = frozenset({aten.index.Tensor, aten.index_select.default})

    def check(self, node: fx.Node) -> Indexed | No:
        """Find the one dimension that is indexed."""
        found = (
            Indexed(arguments(node)[1], arguments(node)[2], per_batch=False)
            if node.target is aten.index_select.default
            else indexed_dimension(node)
        )
        if isinstance(found, Indexed) and constant_of(found.index) is not None:
            return No("the index is known at export")
        return found

    def rewrite(self, node: fx.Node, match: Indexed, values: Values) -> Any:
        """Gather rows, and give them the shape that indexing gives."""
        x = values(arguments(node)[0])
        dim = match.dim % x.dim()
        x_BNC = as_rows(x, dim)
        rows = gather_rows(x_BNC, match.rows(values, x_BNC.shape[0], x_BNC.shape[1]))
        return rows.reshape(value_of(node).shape)


class RaiseIndexPut(Rule[Indexed]):
    """Replaces writes through an index with `scatter_rows`.

    Before::

        y = index_put(x, [arange(B)[:, None], index_BK], src, accumulate=True)        y = index_add(x, 1, index_K, src)

    After::

        y = scatter_rows(x_BNC, index_BK, src_BKC, "sum", include_base=True)
    """

    name = "merge::raise_index_put"
    pattern = frozenset({aten.index_put.default, aten.index_add.default, aten.index_copy.default})

    def check(self, node: fx.Node) -> Indexed | No:
        """Find the one dimension that is written along."""
        if node.target is aten.index_put.default:
            return indexed_dimension(node)
        return Indexed(arguments(node)[1], arguments(node)[2], per_batch=False)

    def rewrite(self, node: fx.Node, match: Indexed, values: Values) -> Any:
        """Scatter rows into the base, summing or overwriting."""
        base = values(arguments(node)[0])
        dim = match.dim % base.dim()
        base_BMC = as_rows(base, dim)
        index_BK = match.rows(values, base_BMC.shape[0], base_BMC.shape[1])
        src = values(arguments(node)[2 if node.target is aten.index_put.default else 3])
        sizes = (*base.shape[:dim], index_BK.shape[1], *base.shape[dim + 1 :])
        src_BKC = src.expand(sizes).reshape(base_BMC.shape[0], index_BK.shape[1], base_BMC.shape[2])
        adds = node.target is aten.index_add.default
        if adds and node.kwargs.get("alpha", 1) != 1:
            src_BKC = src_BKC * node.kwargs["alpha"]
        if node.target is aten.index_put.default:
            adds = bool(arguments(node)[3]) if len(arguments(node)) > 3 else bool(node.kwargs.get("accumulate", False))
        return scatter_rows(base_BMC, index_BK, src_BKC, "sum" if adds else "set", True).reshape(base.shape)


def indexed_dimension(node: fx.Node) -> Indexed | No:
    """The dimension that `x[..., index, ...]` indexes, where it is one, or one and the batch itself."""
    x, indices = arguments(node)[:2]
    assert isinstance(x, fx.Node) and isinstance(indices, list | tuple)
    given = [(dim, index) for dim, index in enumerate(indices) if isinstance(index, fx.Node)]
    if any(value_of(index).dtype in (torch.bool, torch.uint8) for _, index in given):
        return No("a mask chooses a number of rows that depends on data")
    if len(given) == 1:
        ((dim, index),) = given
        if value_of(index).dim() != 1:
            return No("an index of more than one dimension adds dimensions")
        return Indexed(dim, index, per_batch=False)
    *batch_dims, (dim, index) = given
    shape = value_of(x).shape
    if [d for d, _ in given] != list(range(len(given))) or value_of(index).dim() != dim + 1:
        return No("more than one dimension is indexed")
    if value_of(index).shape[:-1] != shape[:dim] or not all(_is_own_position(i, d, dim) for d, i in batch_dims):
        return No("the first index is not the position in the batch")
    return Indexed(dim, index, per_batch=math.prod(shape[:dim]) > 1)


def _is_own_position(index: fx.Node, at: int, dim: int) -> bool:
    """Whether `index` is known to be the position along dimension `at` everywhere."""
    constant = constant_of(index)
    if constant is None or constant.ndim != dim + 1:
        return False
    shape = [1] * (dim + 1)
    shape[at] = constant.shape[at]
    return bool((constant == np.arange(constant.shape[at]).reshape(shape)).all())
