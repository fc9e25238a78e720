"""The index form for a delegate: decisions and row copies in one break, the sums as products in the next region."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tm_export.exporters.lowering.arith_form import is_position
from tm_export.exporters.lowering.form import scatter_by_masks, scatter_by_onehot
from tm_export.exporters.lowering.gather_form import GatherForm
from tm_export.exporters.lowering.selection import Selection


class RowsForm(GatherForm):
    """As the index form, but what is added by index there is a one-hot product here.

    topk, argmax and index_select have kernels that copy whole rows and cost microseconds; they stand together
    between two regions of the delegate. Adding by index has none such.
    """

    name: ClassVar[str] = "gather"
    max_sources: ClassVar[float] = 128
    """A product is as wide as what it adds to; about here doubling it should cost the copy it saves (reckoned)."""

    def scatter(
        self, base_BMC: Tensor, selection: Selection, src_BKC: Tensor, reduce: str, include_base: bool
    ) -> Tensor:
        """A one-hot matrix, made from the index by arithmetic, times the source rows."""
        if reduce in ("set", "last"):
            return super().scatter(base_BMC, selection, src_BKC, reduce, include_base)
        if reduce in ("amax", "amin", "prod"):
            return scatter_by_masks(base_BMC, selection, src_BKC, reduce, include_base)
        positions_M1 = torch.arange(base_BMC.shape[1], dtype=torch.float32).unsqueeze(-1)
        onehot_BMK = is_position(selection.position_BK.unsqueeze(1), positions_M1)
        return scatter_by_onehot(base_BMC, onehot_BMK, src_BKC, reduce, include_base)
