"""The one-hot form: topk and argmax decide, matrix products move the rows."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tm_export.exporters.lowering.form import gather_by_matmul, scatter_by_matmul
from tm_export.exporters.lowering.gather_form import best_by_argmax, order_by_topk
from tm_export.exporters.lowering.selection import Selection


class OneHotForm:
    """Decisions by topk and argmax, compared with positions in integers: exact in any float precision."""

    name: ClassVar[str] = "onehot"

    def order(self, keys_BN: Tensor, k: int, descending: bool) -> Selection:
        """topk, which sorts what it returns."""
        return order_by_topk(keys_BN, k, descending)

    def best(self, scores_BMN: Tensor, largest: bool) -> Selection:
        """argmax, or argmin."""
        return best_by_argmax(scores_BMN, largest)

    def gather(self, x_BNC: Tensor, selection: Selection) -> Tensor:
        """A one-hot matrix times the rows."""
        return gather_by_matmul(x_BNC, selection)

    def scatter(
        self, base_BMC: Tensor, selection: Selection, src_BKC: Tensor, reduce: str, include_base: bool
    ) -> Tensor:
        """A transposed one-hot matrix times the rows."""
        return scatter_by_matmul(base_BMC, selection, src_BKC, reduce, include_base)
