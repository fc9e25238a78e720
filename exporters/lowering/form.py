"""What a lowering form is, and the pieces that several forms share."""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch
from torch import Tensor

from tm_export.exporters.lowering.selection import Selection

MAX_SELECT_ELEMENTS = 1 << 22
"""How many elements [M, K', C] a masked maximum spreads out at once (16 MiB of float32)."""


class Form(Protocol):
    """One way to express the merge dialect in ATen operators.

    Letters as in the dialect: B batch, N candidates, M rows written to, K chosen rows, C channels.
    """

    name: ClassVar[str]

    def order(self, keys_BN: Tensor, k: int, descending: bool) -> Selection:
        """The first k of the sorted keys."""
        ...

    def best(self, scores_BMN: Tensor, largest: bool) -> Selection:
        """The best of N scores, for each of M rows."""
        ...

    def gather(self, x_BNC: Tensor, selection: Selection) -> Tensor:
        """The selected rows, [B, K, C]."""
        ...

    def scatter(
        self, base_BMC: Tensor, selection: Selection, src_BKC: Tensor, reduce: str, include_base: bool
    ) -> Tensor:
        """The base with the source rows reduced into the selected rows of it, [B, M, C].

        `reduce` is one of the dialect's, where "set" needs rows that are known to be distinct, or `"last"`: of rows
        that are written to one place the last stays.
        """
        ...


def gather_by_matmul(x_BNC: Tensor, selection: Selection) -> Tensor:
    """One-hot [B, K, N] times rows [B, N, C], which must be finite: zero times infinity is no number.

    A single channel may hold a protected token's score that was filled with infinity in the block before.
    """
    if x_BNC.shape[-1] == 1:
        limit = torch.finfo(torch.float32).max
        return selection.onehot_BKN @ x_BNC.to(torch.float32).clamp(-limit, limit).to(x_BNC.dtype)
    return selection.onehot_BKN @ x_BNC


def scatter_by_matmul(
    base_BMC: Tensor, selection: Selection, src_BKC: Tensor, reduce: str, include_base: bool
) -> Tensor:
    """Transposed one-hot [B, M, K] times source rows [B, K, C], and a count where the reduction needs one."""
    if reduce in ("amax", "amin", "prod"):
        return scatter_by_masks(base_BMC, selection, src_BKC, reduce, include_base)
    return scatter_by_onehot(base_BMC, selection.onehot_BKN.transpose(1, 2), src_BKC, reduce, include_base)


def scatter_by_onehot(base_BMC: Tensor, onehot_BMK: Tensor, src_BKC: Tensor, reduce: str, include_base: bool) -> Tensor:
    """One-hot [B, M, K] times source rows [B, K, C], and a count where the reduction needs one."""
    if reduce == "last":
        onehot_BMK = without_overwritten(onehot_BMK)
    arriving_BMC = onehot_BMK @ src_BKC
    if reduce == "sum" and include_base:
        return base_BMC + arriving_BMC
    count_BM1 = onehot_BMK.sum(-1, keepdim=True)
    return finish(base_BMC, arriving_BMC, count_BM1, reduce, include_base)


def without_overwritten(onehot_BMK: Tensor) -> Tensor:
    """One-hot [B, M, K] of the last source row for each row alone: those before it are overwritten."""
    K = onehot_BMK.shape[2]
    later_BMK = onehot_BMK @ torch.ones(K, K).tril(-1)
    return onehot_BMK * (1 - later_BMK.clamp(0, 1))


def finish(base_BMC: Tensor, arriving_BMC: Tensor, count_BM1: Tensor, reduce: str, include_base: bool) -> Tensor:
    """Combine the base with the sum of what arrives at each row and how much arrives."""
    if reduce == "mean" and include_base:
        return (base_BMC + arriving_BMC) / (count_BM1 + 1)
    arrived_BM1 = count_BM1.clamp(0, 1)
    if reduce == "mean":
        arriving_BMC = arriving_BMC / count_BM1.clamp(min=1)
    return base_BMC * (1 - arrived_BM1) + arriving_BMC


def scatter_by_masks(
    base_BMC: Tensor, selection: Selection, src_BKC: Tensor, reduce: str, include_base: bool
) -> Tensor:
    """amax, amin and prod, which are no matrix product: a few source rows at a time, masked and reduced.

    Where a source row does not arrive, a number stands for it that changes nothing and that every dtype has: the base,
    where that takes part; else the least of all source rows (the greatest for amin), which no maximum is below.
    """
    M, K, C = base_BMC.shape[1], src_BKC.shape[1], base_BMC.shape[2]
    step = max(1, min(K, MAX_SELECT_ELEMENTS // (M * C)))
    neutral = _neutral(base_BMC, src_BKC, reduce, include_base)
    mask_BKM1 = (selection.onehot_BKN > 0.5).unsqueeze(-1)
    result: Tensor | None = base_BMC if include_base else None
    for start in range(0, K, step):
        part_BKMC = torch.where(
            mask_BKM1[:, start : start + step], src_BKC[:, start : start + step].unsqueeze(2), neutral
        )
        part_BMC = _product(part_BKMC) if reduce == "prod" else getattr(part_BKMC, reduce)(1)
        if result is None:
            result = part_BMC
        elif reduce == "prod":
            result = result * part_BMC
        else:
            result = torch.maximum(result, part_BMC) if reduce == "amax" else torch.minimum(result, part_BMC)
    assert result is not None, "a scatter has at least one source row"
    return result if include_base else torch.where(mask_BKM1.any(1), result, base_BMC)


def _product(x_BKMC: Tensor) -> Tensor:
    """The product over K, by halving: not every target multiplies along a dimension."""
    while (k := x_BKMC.shape[1]) > 1:
        half = k // 2
        folded = x_BKMC[:, :half] * x_BKMC[:, half : 2 * half]
        x_BKMC = torch.cat([folded, x_BKMC[:, 2 * half :]], 1) if k % 2 else folded
    return x_BKMC.squeeze(1)


def _neutral(base_BMC: Tensor, src_BKC: Tensor, reduce: str, include_base: bool) -> Tensor:
    """What stands for a source row that does not arrive, [B, 1, M or 1, C]."""
    if reduce == "prod":
        return torch.ones(1, 1, 1, 1, dtype=src_BKC.dtype)
    if include_base:
        return base_BMC.unsqueeze(1)
    return (src_BKC.amin(1) if reduce == "amax" else src_BKC.amax(1)).unsqueeze(1).unsqueeze(1)
