"""Which form of merging is cheapest where: a cost model.

What a site does in a form is counted in six units, and each unit has a price in nanoseconds on each target. The prices
are set by hand, from single measured kernels. `benchmarks/lowering_costs.py` measures whole sites of five sizes in
every form: of 15 choices on onnxruntime, XNNPACK and the portable kernels 14 are the fastest form (docs/lowering.md has
the times). Prices that are fitted to these times come closer to them, but choose worse, so they are not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from math import log2
from typing import Final

import torch

from tm_export.exporters.lowering.arith_form import ArithForm
from tm_export.exporters.lowering.form import Form
from tm_export.exporters.lowering.gather_form import GatherForm
from tm_export.exporters.lowering.onehot_form import OneHotForm
from tm_export.exporters.lowering.rank_form import RankForm
from tm_export.exporters.lowering.rows_form import RowsForm
from tm_export.exporters.merging.work import Work

EXACT_IN_FP16: Final = 2048
"""Whole numbers up to here are exact in half precision."""


@dataclass(frozen=True)
class Effort:
    """How often each priced thing is done; or, as a price list, nanoseconds for doing it once."""

    operators: float
    breaks: float
    """Times that the work leaves an accelerator's or delegate's region."""
    sorting: float
    """Elements sorted, times log2 of how many there are to choose from."""
    elements: float
    """Elements of comparisons, reductions and one-hot matrices."""
    moved: float
    """Elements copied or added in whole rows."""
    macs: float

    def cost(self, prices: Effort) -> float:
        """The sum over all units, in the prices' unit."""
        return float(sum(amount * price for amount, price in zip(astuple(self), astuple(prices), strict=True)))


def effort(form: str, work: Work) -> Effort:
    """What a site does in a form."""
    depth = log2(max(work.candidates, 2))
    sorting = work.sorted_elements * depth
    if form == "gather":
        return Effort(2 * work.operations, 1, sorting, work.scored_elements, work.moved_elements, 0)
    matrices = 2 * work.onehot_elements
    if form == "onehot":
        return Effort(3 * work.operations, 1, sorting, work.scored_elements + matrices, 0, work.matmul_macs)
    # Both compare all pairs, twice; the arithmetic form finds a maximum by halving, in more operators.
    operators, passes, comparisons = (6, 8.0, 7.0) if form == "rank" else (10, 12.0, 6.0)
    elements = passes * work.scored_elements + comparisons * work.compared_pairs + matrices
    return Effort(operators * work.operations, 0, 0, elements, 0, work.matmul_macs)


@dataclass(frozen=True)
class CostModel:
    """The forms that a target has, and its prices in nanoseconds."""

    name: str
    forms: Mapping[str, Form]
    prices: Effort

    def nanoseconds(self, form: str, work: Work) -> float:
        """The cost of a site in a form."""
        return effort(form, work).cost(self.prices)

    def cheapest(self, work: Work, *, half: bool) -> str:
        """The cheapest form that is exact: in half precision, ranks are so only up to 2048 candidates."""
        allowed = [
            form for form in self.forms if not (half and form in ("rank", "arith") and work.candidates > EXACT_IN_FP16)
        ]
        return min(allowed, key=lambda form: self.nanoseconds(form, work))


def _forms(*forms: Form) -> Mapping[str, Form]:
    return {form.name: form for form in forms}


ONNX_CPU: Final = CostModel(
    "onnxruntime CPU",
    _forms(GatherForm(), OneHotForm(), RankForm()),
    Effort(operators=4_000, breaks=0, sorting=2.0, elements=0.6, moved=0.4, macs=0.012),
)
XNNPACK: Final = CostModel(
    "XNNPACK",
    _forms(RowsForm(), OneHotForm(), ArithForm()),
    Effort(operators=3_000, breaks=20_000, sorting=10.0, elements=0.5, moved=1.0, macs=0.012),
)
PORTABLE: Final = CostModel(
    "ExecuTorch portable",
    _forms(GatherForm(), OneHotForm(), RankForm()),
    Effort(operators=2_000, breaks=0, sorting=10.0, elements=4.0, moved=2.0, macs=1.0),
)
# No phone was at hand. What a break costs is what others measured (docs/lowering.md); the rest is a guess at the
# proportions: matrix products are nearly free on the Neural Engine, leaving it is not.
COREML: Final = CostModel(
    "the Neural Engine",
    _forms(RankForm(), OneHotForm(), GatherForm()),
    Effort(operators=5_000, breaks=720_000, sorting=10.0, elements=0.05, moved=1.0, macs=0.0005),
)
COREML_HALF: Final = replace(COREML, forms=_forms(RankForm(computed_in=torch.float16), OneHotForm(), GatherForm()))
"""The same where scores are held in half precision."""
