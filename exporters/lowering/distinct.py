"""Whether the entries of an index are known to be distinct, so that no two rows are written to one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import fx

from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.constants import constant_of
from tm_export.exporters.graph.dialect import GATHER_ROWS, ORDER
from tm_export.exporters.graph.nodes import SliceOf, slice_of, value_of

aten = torch.ops.aten

_SAME_ENTRIES: Final = {
    aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.unsqueeze.default, aten.squeeze.dim,
    aten.squeeze.dims, aten.squeeze.default, aten.clone.default, aten.contiguous.default, aten.alias.default,
    aten.detach.default, aten.neg.default,
}  # fmt: skip


def is_distinct(index: fx.Node, batch: int) -> bool:
    """Whether each of `batch` parts of an index, in the order of memory, names no candidate twice.

    That follows from an order, of which every candidate has one place; from its parts, and from parts of those.
    """
    value = value_of(index)
    if value.numel() <= batch:
        return True
    if (constant := constant_of(index)) is not None:
        rows = np.sort(constant.reshape(batch, -1))
        return bool((rows[:, 1:] != rows[:, :-1]).all())
    if index.target is ORDER:
        return batch % value.shape[0] == 0
    if index.op != "call_function":
        return False
    if index.target in _SAME_ENTRIES:
        return is_distinct(bound_arguments(index)["self"], batch)
    if index.target in (aten.to.dtype, aten._to_copy.default):
        return value.dtype in (torch.int32, torch.int64) and is_distinct(bound_arguments(index)["self"], batch)
    if index.target is aten.expand.default:
        source = bound_arguments(index)["self"]
        return value_of(source).numel() == value.numel() and is_distinct(source, batch)
    if index.target is GATHER_ROWS:
        given = bound_arguments(index)
        return value.shape[2] == 1 and all(is_distinct(given[name], batch) for name in ("x_BNC", "index_BK"))
    if index.target is aten.slice.Tensor:
        return _are_distinct([slice_of(index)], batch)
    if index.target is aten.cat.default:
        given = bound_arguments(index)
        parts = [part for part in given["tensors"] if part.target is aten.slice.Tensor]
        cuts = [slice_of(part) for part in parts]
        dim = from_front(given["dim"], value.dim())
        return len(parts) == len(given["tensors"]) and {cut.dim for cut in cuts} == {dim} and _are_distinct(cuts, batch)
    return False


def _are_distinct(cuts: Sequence[SliceOf], batch: int) -> bool:
    """Whether slices of one tensor do not overlap, and each part of the batch stays whole."""
    first = cuts[0]
    before = math.prod(value_of(first.source).shape[: first.dim])
    taken = [place for cut in cuts for place in range(cut.start, cut.end, cut.step)]
    return (
        all(cut.source is first.source and cut.dim == first.dim for cut in cuts)
        and before % batch == 0
        and len(set(taken)) == len(taken)
        and is_distinct(first.source, batch)
    )
