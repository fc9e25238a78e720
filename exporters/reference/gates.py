"""What must hold for an artifact to be called good."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch

from tm_export.exporters.options import Precision
from tm_export.runtime.run.closeness import Difference


@dataclass(frozen=True)
class Gate:
    """Bounds on one output, and on the decisions that led to it.

    Attributes:
        name: as reports say it.
        max_relative_error: of an output, against the largest magnitude in it.
        min_psnr_db: of an output.
        tie_margin: how far apart two scores may lie, relative to the spread of their row's, for an exchange of the
            two to count as rounding.
        epsilon: the same relative to the row's largest magnitude: what rounding alone can do.
        max_excused: the largest share of decisions that may be excused as ties.
    """

    name: str
    max_relative_error: float
    min_psnr_db: float
    tie_margin: float
    epsilon: float
    max_excused: float

    def holds(self, found: Difference) -> bool:
        """Whether an output is close enough."""
        return found.within(self.max_relative_error, self.min_psnr_db)


_EPSILONS: Final = 8
"""Units in the last place by which a sum of products differs from one engine to the next (measured: up to 4)."""

FP32: Final = Gate(
    "fp32: relative error ≤ 1e-4 and PSNR > 70 dB", 1e-4, 70.0, 1e-4, _EPSILONS * torch.finfo(torch.float32).eps, 0.1
)
FP16: Final = Gate("fp16: PSNR ≥ 40 dB", math.inf, 40.0, 2e-2, _EPSILONS * torch.finfo(torch.float16).eps, 0.5)
BF16: Final = Gate("bf16: PSNR ≥ 30 dB", math.inf, 30.0, 5e-2, _EPSILONS * torch.finfo(torch.bfloat16).eps, 0.5)

_BY_COARSENESS: Final = (FP32, FP16, BF16)


def gate_for(precision: Precision, reference: torch.dtype = torch.float32) -> Gate:
    """The gate for artifacts of this precision, against a reference whose coarsest floats are of that dtype."""
    computed = FP32 if precision == "fp32" else FP16
    held_against = {torch.float16: FP16, torch.bfloat16: BF16}.get(reference, FP32)
    return max(computed, held_against, key=_BY_COARSENESS.index)
