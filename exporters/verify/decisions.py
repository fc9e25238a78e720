"""Compare decisions: how many agree, and whether those that do not are ties but for rounding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tm_export.exporters.dialect import ORDER
from tm_export.exporters.verify.replay import Decision


@dataclass(frozen=True)
class Agreement:
    """Counts of single decisions: one best candidate of a row, or one place in an order."""

    total: int
    agreeing: int
    tied: int

    @property
    def excusable(self) -> bool:
        """Whether every disagreement is a tie."""
        return self.agreeing + self.tied == self.total

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.total + other.total, self.agreeing + other.agreeing, self.tied + other.tied)


def compare_decision(decision: Decision, index: Tensor, margin: float) -> Agreement:
    """Hold an engine's index against the scores that PyTorch saw at the same node.

    A differing choice is tied when its score is within `margin` × the largest finite score of the one that
    PyTorch chose. An index that is out of range, or an order that names a candidate twice, is never tied.
    """
    index = index.to(torch.int64)
    candidates = decision.scores.shape[-1]
    agree = index == decision.index
    if agree.all():
        return Agreement(agree.numel(), agree.numel(), 0)
    valid = (index >= 0) & (index < candidates)
    if decision.op is ORDER:
        distinct = index.sort(dim=-1).values.diff(dim=-1).ne(0).all(dim=-1, keepdim=True)
        valid = valid & distinct
    safe = index.clamp(0, candidates - 1)
    scores = decision.scores.to(torch.float64)
    if decision.op is ORDER:
        chosen, expected = scores.gather(-1, safe), scores.gather(-1, decision.index)
    else:
        chosen = scores.gather(-1, safe.unsqueeze(-1)).squeeze(-1)
        expected = scores.gather(-1, decision.index.unsqueeze(-1)).squeeze(-1)
    finite = scores[scores.isfinite()]
    bound = margin * float(finite.abs().max()) if finite.numel() else 0.0
    close = (chosen == expected) | ((chosen - expected).abs() <= bound)
    tied = valid & close & ~agree
    return Agreement(agree.numel(), int(agree.sum()), int(tied.sum()))
