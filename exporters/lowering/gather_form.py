"""The index form: topk, rows copied by index, and rows added by index. What a CPU does best."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from tm_export.exporters.lowering.form import scatter_by_masks
from tm_export.exporters.lowering.selection import Selection, of_index


class GatherForm:
    """Decisions by topk and argmax, rows by index_select, sums by accumulating index_put."""

    name: ClassVar[str] = "gather"
    max_sources: ClassVar[float] = math.inf
    """How many source rows it may add to a wider tensor than it has to: by index the width costs nothing."""

    def order(self, keys_BN: Tensor, k: int, descending: bool) -> Selection:
        """topk, which sorts what it returns."""
        return order_by_topk(keys_BN, k, descending)

    def best(self, scores_BMN: Tensor, largest: bool) -> Selection:
        """argmax, or argmin."""
        return best_by_argmax(scores_BMN, largest)

    def gather(self, x_BNC: Tensor, selection: Selection) -> Tensor:
        """Whole rows of the flattened batch, copied."""
        B, N, C = x_BNC.shape
        if B == 1:
            return x_BNC.index_select(1, selection.index_BK.reshape(-1))
        index = flat_index(selection, N)
        return x_BNC.reshape(B * N, C).index_select(0, index).reshape(B, selection.rows, C)

    def scatter(
        self, base_BMC: Tensor, selection: Selection, src_BKC: Tensor, reduce: str, include_base: bool
    ) -> Tensor:
        """Whole rows of the flattened batch, overwritten or added to, with a count for the mean."""
        if reduce in ("amax", "amin", "prod"):
            return scatter_by_masks(base_BMC, selection, src_BKC, reduce, include_base)
        if reduce == "last":
            return put_last(base_BMC, selection, src_BKC)
        B, M, C = base_BMC.shape
        index = flat_index(selection, M)
        src = src_BKC.reshape(-1, C)
        if reduce == "set" or (reduce == "sum" and include_base):
            put = base_BMC.reshape(B * M, C).index_put((index,), src, accumulate=reduce == "sum")
            return put.reshape(B, M, C)
        arriving = torch.zeros(B * M, C, dtype=src.dtype).index_put((index,), src, accumulate=True)
        ones = torch.ones(index.shape[0], 1, dtype=src.dtype)
        count = torch.zeros(B * M, 1, dtype=src.dtype).index_put((index,), ones, accumulate=True)
        arriving_BMC, count_BM1 = arriving.reshape(B, M, C), count.reshape(B, M, 1)
        if reduce == "mean" and include_base:
            return mean(base_BMC + arriving_BMC, count_BM1 + 1)
        if reduce == "mean":
            arriving_BMC = mean(arriving_BMC, count_BM1.clamp(min=1))
        return torch.where(count_BM1 > 0, arriving_BMC, base_BMC)


def order_by_topk(keys_BN: Tensor, k: int, descending: bool) -> Selection:
    """The selection that topk makes."""
    index = keys_BN.topk(k, dim=-1, largest=descending, sorted=True).indices
    return of_index(index, keys_BN.shape[1])


def best_by_argmax(scores_BMN: Tensor, largest: bool) -> Selection:
    """The selection that argmax (or argmin) makes."""
    index = scores_BMN.argmax(-1) if largest else scores_BMN.argmin(-1)
    return of_index(index, scores_BMN.shape[2])


def mean(total: Tensor, count: Tensor) -> Tensor:
    """The quotient; of integers, rounded down as PyTorch does."""
    return total / count if total.is_floating_point() else total.div(count, rounding_mode="floor")


def put_last(base_BMC: Tensor, selection: Selection, src_BKC: Tensor) -> Tensor:
    """The base with each row overwritten by the last source row that goes there: which one, and then a copy."""
    position_K1 = torch.arange(1, src_BKC.shape[1] + 1, dtype=torch.float32).unsqueeze(-1)
    last_BM = (selection.onehot_BKN * position_K1).amax(1)
    source = of_index((last_BM - 1).clamp(min=0).to(torch.int64), src_BKC.shape[1])
    rows_BMC = GatherForm().gather(src_BKC, source)
    return torch.where(last_BM.unsqueeze(-1) > 0, rows_BMC, base_BMC)


def flat_index(selection: Selection, rows: int) -> Tensor:
    """Row numbers [B·K] in a batch of `rows` rows each, flattened."""
    index_BK = selection.index_BK
    if index_BK.shape[0] > 1:
        index_BK = index_BK + (torch.arange(index_BK.shape[0]) * rows).unsqueeze(-1)
    return index_BK.reshape(-1)
