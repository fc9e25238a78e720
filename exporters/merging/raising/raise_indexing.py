"""Raise indexing by tensors (`x[b, index]`, index_select, index_put, index_add, index_copy) to rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.bounds import bounds_of
from tm_export.exporters.graph.constants import constant_of
from tm_export.exporters.graph.dialect import gather_rows, scatter_rows
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule
from tm_export.exporters.merging.raising.rows import as_index, as_rows

aten = torch.ops.aten


@dataclass(frozen=True)
class Indexed:
    """Rows along `dim` are meant, at `index`: [K] for all batches alike, or [B, K] one row of indices a batch."""

    dim: int
    index: fx.Node
    per_batch: bool

    def rows(self, values: Values, batch: int, size: int) -> Tensor:
        """The index as [B, K], counted from the front."""
        index = as_index(values(self.index))
        bounds = bounds_of(self.index)
        if bounds is None or bounds.low < 0:
            index = torch.where(index < 0, index + size, index)
        return index.reshape(batch if self.per_batch else 1, -1).expand(batch, -1)


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
        found = indexed_dimension(node) if node.target is aten.index.Tensor else _named_dimension(node)
        if isinstance(found, Indexed) and constant_of(found.index) is not None:
            return No("the index is known at export")
        return found

    def rewrite(self, node: fx.Node, match: Indexed, values: Values) -> Any:
        """Gather rows, and give them the shape that indexing gives."""
        x_BNC = as_rows(values(bound_arguments(node)["self"]), match.dim)
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
        return _named_dimension(node)

    def rewrite(self, node: fx.Node, match: Indexed, values: Values) -> Any:
        """Scatter rows into the base, summing or overwriting."""
        given = bound_arguments(node)
        base, dim = values(given["self"]), match.dim
        base_BMC = as_rows(base, dim)
        index_BK = match.rows(values, base_BMC.shape[0], base_BMC.shape[1])
        src = values(given["values" if node.target is aten.index_put.default else "source"])
        sizes = (*base.shape[:dim], index_BK.shape[1], *base.shape[dim + 1 :])
        src_BKC = src.expand(sizes).reshape(base_BMC.shape[0], index_BK.shape[1], base_BMC.shape[2])
        if given.get("alpha", 1) != 1:
            src_BKC = (src_BKC * given["alpha"]).to(src_BKC.dtype)
        adds = given.get("accumulate", node.target is aten.index_add.default)
        return scatter_rows(base_BMC, index_BK, src_BKC, "sum" if adds else "set", True).reshape(base.shape)


def _named_dimension(node: fx.Node) -> Indexed | No:
    """The dimension that index_select, index_add and index_copy name."""
    given = bound_arguments(node)
    rank = value_of(given["self"]).dim()
    if not rank:
        return No("a scalar has no rows")
    return Indexed(from_front(given["dim"], rank), given["index"], per_batch=False)


def indexed_dimension(node: fx.Node) -> Indexed | No:
    """The dimension that `x[..., index, ...]` indexes, where it is one, or one and the batch itself."""
    called = bound_arguments(node)
    given = [(dim, index) for dim, index in enumerate(called["indices"]) if isinstance(index, fx.Node)]
    if any(value_of(index).dtype in (torch.bool, torch.uint8) for _, index in given):
        return No("a mask chooses a number of rows that depends on data")
    if len(given) == 1:
        ((dim, index),) = given
        if value_of(index).dim() != 1:
            return No("an index of more than one dimension adds dimensions")
        return Indexed(dim, index, per_batch=False)
    if not given:
        return No("nothing is indexed")
    *batch_dims, (dim, index) = given
    shape = value_of(called["self"]).shape
    if [d for d, _ in given] != list(range(len(given))) or value_of(index).dim() != dim + 1:
        return No("more than one dimension is indexed")
    if value_of(index).shape[:-1] != shape[:dim] or not all(_is_own_position(i, d, shape[:dim]) for d, i in batch_dims):
        return No("the first index is not the position in the batch")
    return Indexed(dim, index, per_batch=math.prod(shape[:dim]) > 1)


def _is_own_position(index: fx.Node, at: int, batch: Sequence[int]) -> bool:
    """Whether `index` is known to be the position along dimension `at` of the batch everywhere."""
    constant = constant_of(index)
    if constant is None or constant.ndim != len(batch) + 1 or constant.shape[at] != batch[at]:
        return False
    shape = [1] * constant.ndim
    shape[at] = batch[at]
    return bool((constant == np.arange(batch[at]).reshape(shape)).all())
