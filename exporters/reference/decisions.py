"""Compare decisions: how many agree, and whether those that do not are ties but for rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from tm_export.exporters.graph.dialect import ORDER
from tm_export.exporters.reference.gates import Gate
from tm_export.exporters.reference.replay import Decision

_SENTINEL: Final = 1e4
"""Finite scores from here on may be no scores but marks, as -1e9 and the smallest number are: if they stand apart."""
_APART: Final = 100.0
"""How many times as large as the next smaller score of its row a mark is."""


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

    def within(self, gate: Gate) -> bool:
        """Whether every disagreement is a tie, and no larger a share of all decisions than the gate allows."""
        return self.excusable and self.tied <= max(2, gate.max_excused * self.total)  # one exchange makes two

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.total + other.total, self.agreeing + other.agreeing, self.tied + other.tied)


def compare_decision(decision: Decision, index: Tensor, gate: Gate) -> Agreement:
    """Hold an engine's index against the scores that PyTorch saw at the same node.

    A differing choice is tied when its score is equal to the one that PyTorch chose, or as good as equal: within the
    gate's margin, which is reckoned for each row of scores from that row's own. Integers are exact. Where it is open
    which of equal scores comes first, another of them agrees. An index that is out of range, or an order that names a
    candidate twice, is neither.
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
    rows = safe if decision.op is ORDER else safe.unsqueeze(-1)
    wanted = decision.index if decision.op is ORDER else decision.index.unsqueeze(-1)
    chosen, expected = decision.scores.gather(-1, rows), decision.scores.gather(-1, wanted)
    close = equal = chosen == expected
    if decision.scores.is_floating_point():
        apart = (chosen.to(torch.float64) - expected.to(torch.float64)).abs()
        close = close | (apart <= _bound(decision.scores, gate))
    if not decision.is_stable:
        agree = agree | (valid & equal.reshape(agree.shape))
    tied = valid & close.reshape(agree.shape) & ~agree
    return Agreement(agree.numel(), int(agree.sum()), int(tied.sum()))


def _bound(scores: Tensor, gate: Gate) -> Tensor:
    """How far apart two scores of each row may lie and count as equal, [..., 1]; 0 for a row without real scores."""
    scores = scores.to(torch.float64)
    real = _is_real(scores)
    highest = scores.masked_fill(~real, -torch.inf).amax(-1, keepdim=True)
    lowest = scores.masked_fill(~real, torch.inf).amin(-1, keepdim=True)
    magnitude = torch.maximum(highest.abs(), lowest.abs())
    bound = torch.maximum(gate.tie_margin * (highest - lowest), gate.epsilon * magnitude)
    return bound.where(real.any(-1, keepdim=True), 0.0)


def _is_real(scores: Tensor) -> Tensor:
    """Whether each score is one: finite, and no mark that stands apart from its row, as the -1e9 of a protected token.

    Marks do not say how finely the other scores differ.
    """
    finite = scores.isfinite()
    magnitude, position = scores.abs().masked_fill(~finite, torch.inf).sort(dim=-1)
    before = magnitude.roll(1, dims=-1)
    before[..., 0] = torch.inf  # the smallest stands apart from nothing
    is_mark = ((magnitude >= _SENTINEL) & (magnitude > _APART * before)).to(torch.int64).cumsum(-1) > 0
    return finite & ~torch.zeros_like(finite).scatter(-1, position, is_mark)
