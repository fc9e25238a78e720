"""Decisions over whole numbers: labels, counts, positions, masks. They are exact, and often equal.

Floats that are equal are rare, and which comes first is left to the engine's kernel. Whole numbers are equal as a rule
(all tokens of a cluster, all that a mask keeps), and PyTorch's stable order of them is part of what the model computes.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from tm_export.exporters.graph.bounds import Bounds, exact_range
from tm_export.exporters.lowering.arith_form import ArithForm
from tm_export.exporters.lowering.form import Form
from tm_export.exporters.lowering.gather_form import best_by_argmax, order_by_topk
from tm_export.exporters.lowering.rank_form import RankForm
from tm_export.exporters.lowering.selection import Selection

MAX_RANKED: Final = 2048
"""More keys than this are not compared pair by pair only to keep equal ones in their order."""

_LARGEST: Final = exact_range(torch.int32)[1]
"""Of an integer on Core ML, where int64 has 32 bits."""


def order_whole(form: Form, keys_BN: Tensor, bounds: Bounds, k: int, descending: bool, *, repeats: bool) -> Selection:
    """The first k of sorted keys within `bounds`; where keys may repeat, equal ones keep their order."""
    if _compares_floats(form, bounds):
        return form.order(keys_BN.to(torch.float32), k, descending)
    N = keys_BN.shape[1]
    if isinstance(form, RankForm) or (_are_large(bounds) and N <= MAX_RANKED):
        return RankForm().order(_as_numbers(keys_BN), k, descending)
    if _are_large(bounds):
        return form.order(keys_BN, k, descending)
    keys_BN = _as_integers(keys_BN)
    if not repeats:
        return order_by_topk(keys_BN, k, descending)
    if (bounds.high - bounds.low + 1) * N <= _LARGEST:
        position = torch.arange(N - 1, -1, -1) if descending else torch.arange(N)
        return order_by_topk((keys_BN - bounds.low) * N + position, k, descending)
    return RankForm().order(keys_BN, k, descending) if N <= MAX_RANKED else order_by_topk(keys_BN, k, descending)


def best_whole(form: Form, scores_BMN: Tensor, bounds: Bounds, largest: bool) -> Selection:
    """The first of the best scores within `bounds`, in each row."""
    if _compares_floats(form, bounds):
        return form.best(scores_BMN.to(torch.float32), largest)
    if isinstance(form, RankForm) or _are_large(bounds):
        return form.best(_as_numbers(scores_BMN), largest)
    return best_by_argmax(_as_integers(scores_BMN), largest)


def _compares_floats(form: Form, bounds: Bounds) -> bool:
    """Whether the form compares by subtracting floats, and these hold the numbers."""
    low, high = exact_range(torch.float32)
    return isinstance(form, ArithForm) and low <= bounds.low and bounds.high <= high


def _are_large(bounds: Bounds) -> bool:
    """Whether the numbers are floats that no integer may hold."""
    low, high = exact_range(torch.int64)
    return bounds.low < low or high < bounds.high


def _as_numbers(x: Tensor) -> Tensor:
    """Truth values as numbers, which can be compared and have a maximum everywhere."""
    return x.to(torch.float32) if x.dtype is torch.bool else x


def _as_integers(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.int32, torch.int64) else x.to(torch.int64)
