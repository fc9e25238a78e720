"""Every form chooses exactly one, whatever one unit in the last place does to each reader's copy of a score.

A device may hand a value to two operators in two roundings. Here every operand of every operator in a form is rounded
anew, up or down at random, unless it is a whole number, which all readers see alike. The scores are near ties.
"""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tm_export.exporters.lowering.arith_form import ArithForm
from tm_export.exporters.lowering.form import Form
from tm_export.exporters.lowering.gather_form import GatherForm
from tm_export.exporters.lowering.onehot_form import OneHotForm
from tm_export.exporters.lowering.rank_form import RankForm
from tm_export.exporters.lowering.rows_form import RowsForm
from tm_export.exporters.lowering.selection import Selection

HALF = torch.float16
CASES: tuple[tuple[Form, torch.dtype], ...] = (
    (RankForm(), torch.float32),
    (RankForm(computed_in=HALF), HALF),
    (ArithForm(), torch.float32),
    (GatherForm(), torch.float32),
    (GatherForm(), HALF),
    (RowsForm(), torch.float32),
    (OneHotForm(), HALF),
)
each_case = pytest.mark.parametrize(("form", "dtype"), CASES, ids=lambda value: str(getattr(value, "name", value)))
seeds = st.integers(0, 2**31)
UNITS_APART = 5
"""A choice may be this many units in the last place from the best: four of slack, one of reading."""


class ReadAnew(TorchDispatchMode):
    """Moves what arithmetic reads by one unit in the last place, up, down or not at all."""

    MOVES = (
        "view",
        "unsqueeze",
        "squeeze",
        "expand",
        "slice",
        "cat",
        "permute",
        "transpose",
        "clone",
        "_to_copy",
        "pad",
    )

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not any(func.__name__.startswith(name) for name in self.MOVES):
            args = tuple(self._copy(arg) if isinstance(arg, Tensor) else arg for arg in args)
        return func(*args, **(kwargs or {}))

    def _copy(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        towards = torch.randint(-1, 2, x.shape, generator=self.generator) * torch.inf
        moved = torch.nextafter(x, towards.nan_to_num(0.0, torch.inf, -torch.inf).to(x.dtype))
        still = (towards.isnan()) | (x == x.round()) | ~x.isfinite()
        return torch.where(still, x, moved)


def near_ties(seed: int, *shape: int, dtype: torch.dtype) -> Tensor:
    """Scores of one to three clusters, a few units wide; here and there protected ones."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(3, generator=generator)[torch.randint(3, shape, generator=generator)]
    units = torch.randint(-2, 3, shape, generator=generator) * torch.finfo(dtype).eps / 2
    scores = (centres.double() * (1 + units.double())).to(dtype)
    return scores.masked_fill(torch.rand(shape, generator=generator) < 0.05, -torch.inf)


def views_agree(selection: Selection) -> Tensor:
    """The index, which every view of the selection says."""
    index = selection.index_BK
    assert torch.equal(selection.position_BK, index.float())
    assert torch.equal(selection.onehot_BKN, torch.nn.functional.one_hot(index, selection.candidates).float())
    return index


def require_near(chosen: Tensor, wanted: Tensor) -> None:
    unit = torch.finfo(chosen.dtype).eps * wanted.double().abs().clamp(min=torch.finfo(chosen.dtype).tiny)
    apart = (chosen.double() - wanted.double()).abs()
    assert torch.all((chosen == wanted) | (apart <= UNITS_APART * unit))


@each_case
@given(seed=seeds, B=st.integers(1, 3), M=st.integers(1, 9), N=st.integers(1, 40), largest=st.booleans())
def test_best_is_one(form: Form, dtype: torch.dtype, seed: int, B: int, M: int, N: int, largest: bool) -> None:
    scores = near_ties(seed, B, M, N, dtype=dtype)
    with ReadAnew(seed):
        index = views_agree(form.best(scores, largest))
    chosen = scores.gather(2, index.unsqueeze(-1)).squeeze(-1)
    require_near(chosen, scores.amax(-1) if largest else scores.amin(-1))


@each_case
@given(seed=seeds, B=st.integers(1, 3), N=st.integers(1, 40), descending=st.booleans())
def test_order_names_each_once(form: Form, dtype: torch.dtype, seed: int, B: int, N: int, descending: bool) -> None:
    keys = near_ties(seed, B, N, dtype=dtype)
    with ReadAnew(seed):
        index = views_agree(form.order(keys, N, descending))
    assert torch.equal(index.sort(-1).values, torch.arange(N).expand(B, N))
    require_near(keys.gather(1, index), keys.sort(-1, descending=descending).values)


def test_the_rounding_tells_forms_that_rely_on_equality() -> None:
    """What this file is about: a choice by equality with the maximum, and ranks by single comparisons, are lost."""
    scores = near_ties(0, 1, 50, 40, dtype=torch.float32)
    with ReadAnew(0):
        hits = (scores == scores.amax(-1, keepdim=True)).sum(-1)
        ranks = (scores.unsqueeze(2) > scores.unsqueeze(3)).sum(2).sort(-1).values
    assert (hits == 0).any()
    assert not torch.equal(ranks, torch.arange(40).expand_as(ranks))
