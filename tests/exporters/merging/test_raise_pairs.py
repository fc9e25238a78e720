"""Means of neighbours and their repeat become `pair_mean` and `pair_repeat`."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.support.programs import nodes_of, operators, raised, refusals
from tm_export.exporters.graph.dialect import PAIR_MEAN, PAIR_REPEAT

X = torch.randn(2, 6, 4, 3, generator=torch.Generator().manual_seed(0))


def even_part(x: Tensor) -> Tensor:
    five = x[:, :5]
    return (five[:, 0:4:2] + five[:, 1:4:2]) / 2


MEANS: dict[str, Callable[[Tensor], Tensor]] = {
    "halved": lambda x: (x[:, ::2] + x[:, 1::2]) / 2,
    "times a half": lambda x: (x[:, 0::2] + x[:, 1::2]) * 0.5,
    "odd first": lambda x: (x[:, 1::2] + x[:, ::2]) / 2,
    "another dimension": lambda x: (x[:, :, ::2] + x[:, :, 1::2]) / 2,
    "the last dimension": lambda x: (x[..., 0:2:2] + x[..., 1:2:2]) / 2,
    "the even part of an odd number": even_part,
}


@pytest.mark.parametrize("spelling", MEANS)
def test_every_spelling_becomes_pair_mean(spelling: str) -> None:
    program, _ = raised(MEANS[spelling], X)
    assert len(nodes_of(program, PAIR_MEAN)) == 1
    assert not {"add", "div", "mul"} & set(operators(program))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x[:, ::2] + x[:, 1::2]) / 3,
        lambda x: (x[:, ::2] - x[:, 1::2]) / 2,
        lambda x: (x[:, ::2] + x[:, ::2]) / 2,
        lambda x: (x[:, ::3] + x[:, 1::3]) / 2,
        lambda x: (x[:, :5:2] + x[:, 1:4:2][:, :1]) / 2,
        lambda x: (x[:, ::2] + (2 * x)[:, 1::2]) / 2,
        lambda x: torch.add(x[:, ::2], x[:, 1::2], alpha=3) / 2,
        lambda x: (x[:, :3] + x[:, 3:]) / 2,
        lambda x: (x[:, ::2, :2] + x[:, 1::2, 2:]) / 2,
        lambda x: (x[:, ::2, :3] + x[:, :3, 1:4]) / 2,
    ],
)
def test_what_is_no_mean_of_neighbours_is_refused(function: Callable[[Tensor], Tensor]) -> None:
    program, firings = raised(function, X)
    assert nodes_of(program, PAIR_MEAN) == []
    assert refusals(firings)
    assert all(reason.startswith("not ") for reason in refusals(firings))


@pytest.mark.parametrize("dim", [0, 1, 2, 3, -2])
def test_repeat_interleave_becomes_pair_repeat(dim: int) -> None:
    program, firings = raised(lambda x: x.repeat_interleave(2, dim=dim), X)
    assert len(nodes_of(program, PAIR_REPEAT)) == 1
    assert refusals(firings) == []


def test_three_repeats_are_refused() -> None:
    program, firings = raised(lambda x: torch.repeat_interleave(x, 3, dim=1), X)
    assert refusals(firings) == ["not two repeats along a dimension"]
    assert nodes_of(program, PAIR_REPEAT) == []
