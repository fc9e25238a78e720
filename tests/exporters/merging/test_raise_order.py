"""Sorting, however it is written, becomes `order`."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.support.programs import nodes_of, operators, raised, refusals
from tm_export.exporters.graph.dialect import ORDER

KEYS = torch.randn(2, 7, generator=torch.Generator().manual_seed(0))

SPELLINGS: dict[str, tuple[Callable[[Tensor], object], int, bool]] = {
    "argsort": (lambda x: x.argsort(), 7, False),
    "argsort descending": (lambda x: x.argsort(dim=-1, descending=True), 7, True),
    "argsort stable": (lambda x: torch.argsort(x, stable=True, dim=1, descending=True), 7, True),
    "sort": (lambda x: x.sort(dim=1), 7, False),
    "sort indices only": (lambda x: x.sort(dim=1, descending=True).indices, 7, True),
    "sort values only": (lambda x: torch.sort(x, -1, True)[0], 7, True),
    "sort stable": (lambda x: torch.sort(x, stable=True, dim=1, descending=True), 7, True),
    "topk": (lambda x: x.topk(3, dim=1), 3, True),
    "topk smallest": (lambda x: torch.topk(x, 3, largest=False), 3, False),
    "topk by keyword": (lambda x: torch.topk(x, k=2, dim=-1, largest=True, sorted=True), 2, True),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_becomes_order(spelling: str) -> None:
    function, k, descending = SPELLINGS[spelling]
    program, firings = raised(function, KEYS)
    (order,) = nodes_of(program, ORDER)
    assert order.args[1:] == (k, descending)
    assert refusals(firings) == []
    assert not {"sort", "argsort", "topk"} & set(operators(program))


def test_values_are_gathered_only_if_they_are_read() -> None:
    assert operators(raised(lambda x: x.topk(3).indices, KEYS)[0])["gather_rows"] == 0
    assert operators(raised(lambda x: x.topk(3).values, KEYS)[0])["gather_rows"] == 1


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_any_dimension(dim: int) -> None:
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))
    program, _ = raised(lambda x: x.sort(dim=dim), x)
    assert len(nodes_of(program, ORDER)) == 1
    raised(lambda x: x.topk(2, dim=dim), x)


def test_msort_sorts_the_first_dimension() -> None:
    program, _ = raised(lambda x: torch.msort(x), KEYS)
    assert "sort" not in operators(program) and "msort" not in operators(program)


def test_equal_keys_keep_their_order_when_stable() -> None:
    ties = torch.tensor([[1.0, 0.0, 1.0, 0.0, -9.0, 1.0]])
    raised(lambda x: torch.where(x < -1, -torch.inf, x).sort(dim=1, descending=True, stable=True), ties)


def test_sorting_an_index() -> None:
    program, _ = raised(lambda x: x.argsort(descending=True)[:, 2:].sort(dim=1).values, KEYS)
    assert len(nodes_of(program, ORDER)) == 2


def test_a_scalar_is_refused() -> None:
    _, firings = raised(lambda x: x.sum().sort(), KEYS)
    assert refusals(firings) == ["a scalar has no order"]
