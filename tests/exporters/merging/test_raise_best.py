"""The choice of the best score, however it is written, becomes `best`."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.support.programs import nodes_of, operators, raised, refusals
from tm_export.exporters.graph.dialect import BEST

SCORES = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))

SPELLINGS: dict[str, tuple[Callable[[Tensor], object], bool]] = {
    "max": (lambda x: x.max(dim=-1), True),
    "max kept": (lambda x: torch.max(x, 2, keepdim=True), True),
    "min": (lambda x: x.min(dim=2), False),
    "argmax": (lambda x: x.argmax(-1), True),
    "argmax kept": (lambda x: torch.argmax(x, dim=2, keepdim=True), True),
    "argmin": (lambda x: x.argmin(dim=-1), False),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_becomes_best(spelling: str) -> None:
    function, largest = SPELLINGS[spelling]
    program, firings = raised(function, SCORES)
    (best,) = nodes_of(program, BEST)
    assert best.args[1] is largest
    assert refusals(firings) == []
    assert not {"max", "min", "argmax", "argmin"} & set(operators(program))


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("keepdim", [False, True])
def test_any_dimension(dim: int, keepdim: bool) -> None:
    raised(lambda x: x.max(dim=dim, keepdim=keepdim), SCORES)
    raised(lambda x: x.argmin(dim=dim, keepdim=keepdim), SCORES)


def test_a_vector() -> None:
    raised(lambda x: x.max(dim=0), torch.tensor([1.0, 3.0, 3.0]))


def test_value_and_index_part_ways() -> None:
    only_value = operators(raised(lambda x: x.max(-1).values, SCORES)[0])
    only_index = operators(raised(lambda x: x.max(-1).indices, SCORES)[0])
    assert (only_value["amax"], only_value["best"]) == (1, 0)
    assert (only_index["amax"], only_index["best"]) == (0, 1)


def test_equal_scores_give_the_first_position() -> None:
    ties = torch.tensor([[[0.0, 2.0, 2.0], [-9.0, -9.0, -9.0]]])
    raised(lambda x: torch.where(x < -1, -torch.inf, x).max(-1), ties)


def test_a_choice_over_all_elements_is_refused() -> None:
    program, firings = raised(lambda x: x.argmax(), SCORES)
    assert refusals(firings) == ["the choice is over all elements, not along a dimension"]
    assert operators(program)["argmax"] == 1
