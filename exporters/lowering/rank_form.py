"""The rank form: decisions by comparing, rows by matrix products. No sort, no index, no topk.

An accelerator may hand one value to two operators in two roundings: what it just computed is still wider in one place
than it is stored in another. So nothing here asks whether two readings of a score are equal. What is read twice, or
compared for equality, is a truth value or a small whole number, which every precision holds exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tm_export.exporters.lowering.form import gather_by_matmul, scatter_by_matmul
from tm_export.exporters.lowering.selection import Selection


@dataclass(frozen=True)
class RankForm:
    """A key's rank is how many keys come before it; a one-hot matrix follows by comparing ranks with 0…k−1."""

    name: ClassVar[str] = "rank"
    computed_in: torch.dtype = torch.float32
    """The narrowest type that the target holds scores in: it says how far two readings of one can be apart."""

    def order(self, keys_BN: Tensor, k: int, descending: bool) -> Selection:
        """The rank of each key among the keys, and then of each rank among the ranks; N² comparisons each.

        Keys that differ by rounding alone may come out in a circle, a before b before c before a: then ranks repeat,
        and others are missing. Ranks of ranks do neither, since whole numbers are ordered by value and position.
        """
        N = keys_BN.shape[1]
        rank_BN = ranks(ranks(keys_BN, descending), descending=False)

        def onehot() -> Tensor:
            return (rank_BN.unsqueeze(1) == torch.arange(k, dtype=torch.float32).unsqueeze(-1)).to(torch.float32)

        return Selection(k, N, onehot=onehot)

    def best(self, scores_BMN: Tensor, largest: bool) -> Selection:
        """The first position that reaches the extreme of its row; where none does, the first that nearly does.

        None does where the row's best score was read higher for the extreme than for the comparison. It is within one
        unit in the last place of each of the two then, and so within the slack, which is four.
        """
        N = scores_BMN.shape[2]
        extreme_BM1 = scores_BMN.amax(-1, keepdim=True) if largest else scores_BMN.amin(-1, keepdim=True)
        from_end_N = N - torch.arange(N, dtype=torch.float32)

        def first_from_end(bound_BM1: Tensor) -> Tensor:
            """N − the first position that reaches the bound, [B, M]; 0 where none does."""
            reaches_BMN = scores_BMN >= bound_BM1 if largest else scores_BMN <= bound_BM1
            return (reaches_BMN.to(torch.float32) * from_end_N).amax(-1)

        def position() -> Tensor:
            first_BM = first_from_end(extreme_BM1)
            if scores_BMN.is_floating_point():
                unit = torch.finfo(self.computed_in)
                slack_BM1 = (extreme_BM1.abs() + unit.tiny) * (4 * unit.eps)
                near_BM = first_from_end(extreme_BM1 - slack_BM1 if largest else extreme_BM1 + slack_BM1)
                first_BM = first_BM + near_BM * (1 - first_BM.clamp(0, 1))
            return N - first_BM.clamp(1, N)

        return Selection(scores_BMN.shape[1], N, position=position)

    def gather(self, x_BNC: Tensor, selection: Selection) -> Tensor:
        """A one-hot matrix times the rows."""
        return gather_by_matmul(x_BNC, selection)

    def scatter(
        self, base_BMC: Tensor, selection: Selection, src_BKC: Tensor, reduce: str, include_base: bool
    ) -> Tensor:
        """A transposed one-hot matrix times the rows."""
        return scatter_by_matmul(base_BMC, selection, src_BKC, reduce, include_base)


def ranks(keys_BN: Tensor, descending: bool) -> Tensor:
    """How many keys come before each, [B, N], float32; of equal keys the left one comes first.

    Each pair is compared once: a key begins with its position as its rank, and where it overtakes a key to its left it
    loses one, and that one gains one.
    """
    N = keys_BN.shape[1]
    own, other = keys_BN.unsqueeze(2), keys_BN.unsqueeze(1)
    left_NN = torch.arange(N).unsqueeze(0) < torch.arange(N).unsqueeze(1)
    overtakes_BNN = ((own > other) if descending else (own < other)).logical_and(left_NN).to(torch.float32)
    return torch.arange(N, dtype=torch.float32) + overtakes_BNN.sum(1) - overtakes_BNN.sum(2)
