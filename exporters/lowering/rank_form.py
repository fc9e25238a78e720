"""The rank form: decisions by comparing all pairs, rows by matrix products. No sort, no index, no topk."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tm_export.exporters.lowering.form import gather_by_matmul, scatter_by_matmul
from tm_export.exporters.lowering.selection import Selection


class RankForm:
    """A key's rank is how many keys come before it; a one-hot matrix follows by comparing ranks with 0…k−1."""

    name: ClassVar[str] = "rank"

    def order(self, keys_BN: Tensor, k: int, descending: bool) -> Selection:
        """Count, for each key, the keys before it and the equal ones to its left; N² comparisons."""
        N = keys_BN.shape[1]
        ahead, own = keys_BN.unsqueeze(1), keys_BN.unsqueeze(2)
        before_BNN = ahead > own if descending else ahead < own
        left_NN = torch.arange(N).unsqueeze(0) < torch.arange(N).unsqueeze(1)
        rank_BN = (before_BNN.logical_or((ahead == own).logical_and(left_NN))).to(torch.float32).sum(-1)

        def onehot() -> Tensor:
            return (rank_BN.unsqueeze(1) == torch.arange(k, dtype=torch.float32).unsqueeze(-1)).to(torch.float32)

        return Selection(k, N, onehot=onehot)

    def best(self, scores_BMN: Tensor, largest: bool) -> Selection:
        """The first position that holds the extreme of its row: N − max over hits of (N − position)."""
        N = scores_BMN.shape[2]
        extreme = scores_BMN.amax(-1, keepdim=True) if largest else scores_BMN.amin(-1, keepdim=True)
        hits_BMN = (scores_BMN == extreme).to(torch.float32)

        def position() -> Tensor:
            return N - (hits_BMN * (N - torch.arange(N, dtype=torch.float32))).amax(-1)

        return Selection(scores_BMN.shape[1], N, position=position)

    def gather(self, x_BNC: Tensor, selection: Selection) -> Tensor:
        """A one-hot matrix times the rows."""
        return gather_by_matmul(x_BNC, selection)

    def scatter(
        self, base_BMC: Tensor, selection: Selection, src_BKC: Tensor, reduce: str, include_base: bool
    ) -> Tensor:
        """A transposed one-hot matrix times the rows."""
        return scatter_by_matmul(base_BMC, selection, src_BKC, reduce, include_base)
