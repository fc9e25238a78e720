"""Which form of merging is cheapest where: a cost model with measured coefficients.

A site's cost in a form is a sum over what the form does: multiply-adds in matrix products, elements touched by
element-wise operators, rows copied, elements sorted, and a fixed cost for each operator and for each time the
work leaves an accelerator's region. The coefficients are in nanoseconds; `benchmarks/lowering_costs.py` measures
them and prints these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2
from typing import Final

from tm_export.exporters.lowering.arith_form import ArithForm
from tm_export.exporters.lowering.form import Form
from tm_export.exporters.lowering.gather_form import GatherForm
from tm_export.exporters.lowering.onehot_form import OneHotForm
from tm_export.exporters.lowering.rank_form import RankForm
from tm_export.exporters.lowering.rows_form import RowsForm

EXACT_IN_FP16: Final = 2048
"""Whole numbers up to here are exact in half precision."""


@dataclass(frozen=True)
class Work:
    """What the operations of a site do, in the letters of the dialect, summed over its operations.

    `sorted_elements` and `compared_pairs` come from decisions, `moved` is rows × channels gathered or scattered,
    `matmul_macs` what the same moves cost as one-hot products, `onehot_elements` the matrices' sizes.
    """

    sorted_elements: int
    compared_pairs: int
    scored_elements: int
    moved_elements: int
    matmul_macs: int
    onehot_elements: int
    operations: int
    candidates: int


@dataclass(frozen=True)
class CostModel:
    """Nanoseconds per unit of work on a target, and which forms it has at all."""

    name: str
    forms: Mapping[str, Form]
    per_operator: float
    per_region_break: float
    per_sorted: float
    per_moved: float
    per_mac: float
    per_element: float
    scan_steps: float = 1.0
    """How often a row's scores are passed over to find the best: once, or log2(N) times by halving."""
    index_breaks: int = 0
    """How many region breaks a site in the index form causes; a one-hot form with topk causes one."""

    def nanoseconds(self, form: str, work: Work) -> float:
        """The cost of a site in a form."""
        elements = work.onehot_elements
        if form == "gather":
            return (
                self.per_operator * 2 * work.operations
                + self.per_region_break * self.index_breaks
                + self.per_sorted * work.sorted_elements * log2(max(work.candidates, 2))
                + self.per_element * work.scored_elements
                + self.per_moved * work.moved_elements
            )
        products = self.per_mac * work.matmul_macs
        if form == "onehot":
            return (
                self.per_operator * 4 * work.operations
                + self.per_region_break * min(self.index_breaks, 1)
                + self.per_sorted * work.sorted_elements * log2(max(work.candidates, 2))
                + self.per_element * (work.scored_elements + 2 * elements)
                + products
            )
        passes = self.scan_steps if form == "rank" else 1 + log2(max(work.candidates, 2)) / 2
        return (
            self.per_operator * (6 if form == "rank" else 8) * work.operations
            + self.per_element * (passes * work.scored_elements + 4 * work.compared_pairs + 3 * elements)
            + products
        )

    def cheapest(self, work: Work, *, half: bool) -> str:
        """The cheapest form that is exact: in half precision, ranks are so only up to 2048 candidates."""
        allowed = [
            form for form in self.forms if not (half and form in ("rank", "arith") and work.candidates > EXACT_IN_FP16)
        ]
        return min(allowed, key=lambda form: self.nanoseconds(form, work))


def _forms(*forms: Form) -> Mapping[str, Form]:
    return {form.name: form for form in forms}


# onnxruntime on a CPU has fast kernels for all of the index form, and no regions to break.
ONNX_CPU: Final = CostModel(
    "onnxruntime CPU", _forms(GatherForm(), OneHotForm(), RankForm()), per_operator=4_000, per_region_break=0,
    per_sorted=2.0, per_moved=0.4, per_mac=0.012, per_element=0.6,
)  # fmt: skip
XNNPACK: Final = CostModel(
    "XNNPACK", _forms(RowsForm(), OneHotForm(), ArithForm()), per_operator=4_000, per_region_break=20_000,
    per_sorted=4.0, per_moved=0.4, per_mac=0.012, per_element=0.5, scan_steps=4, index_breaks=2,
)  # fmt: skip
PORTABLE: Final = CostModel(
    "ExecuTorch portable", _forms(GatherForm(), OneHotForm(), RankForm()), per_operator=2_000, per_region_break=0,
    per_sorted=10.0, per_moved=2.0, per_mac=1.0, per_element=4.0,
)  # fmt: skip
# No phone is at hand: breaks and per-operator costs are those that others measured (lowering notes in docs/).
COREML: Final = CostModel(
    "the Neural Engine", _forms(RankForm(), OneHotForm(), GatherForm()), per_operator=5_000, per_region_break=720_000,
    per_sorted=10.0, per_moved=1.0, per_mac=0.0005, per_element=0.05, index_breaks=3,
)  # fmt: skip
