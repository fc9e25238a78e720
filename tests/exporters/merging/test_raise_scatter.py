"""Scatters, however they are written, become `scatter_rows`."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.support.programs import nodes_of, operators, raised, refusals
from tm_export.exporters.graph.dialect import SCATTER_ROWS
from tm_export.exporters.graph.nodes import value_of

G = torch.Generator().manual_seed(0)
BASE = torch.randn(2, 6, 5, generator=G)
SRC = torch.randn(2, 3, 5, generator=G)
INDEX = torch.tensor([[1, 4, 1], [0, 0, 5]])
DISTINCT = torch.tensor([[1, 4, 2], [0, 3, 5]])


def wide(index: Tensor) -> Tensor:
    return index.unsqueeze(-1).expand(-1, -1, 5)


@pytest.mark.parametrize("reduce", ["sum", "mean", "amax", "amin", "prod"])
@pytest.mark.parametrize("include_self", [True, False])
def test_scatter_reduce(reduce: str, include_self: bool) -> None:
    program, firings = raised(
        lambda x, i, s: x.scatter_reduce(1, wide(i), s, reduce, include_self=include_self), BASE, INDEX, SRC
    )
    (rows,) = nodes_of(program, SCATTER_ROWS)
    assert rows.args[3:] == (reduce, include_self)
    assert value_of(rows.args[1]).shape == (2, 3)  # type: ignore[arg-type]
    assert refusals(firings) == []
    assert not {"scatter", "scatter_add", "scatter_reduce", "expand"} & set(operators(program))


SPELLINGS: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Tensor], str]] = {
    "scatter_add": (lambda x, i, s: x.scatter_add(1, wide(i), s), "sum"),
    "scatter_add_": (lambda x, i, s: x.clone().scatter_add_(1, wide(i), s), "sum"),
    "scatter_reduce_": (lambda x, i, s: x.clone().scatter_reduce_(-2, wide(i), s, "amax"), "amax"),
    "scatter reduce=add": (lambda x, i, s: torch.scatter(x, 1, wide(i), s, reduce="add"), "sum"),
    "scatter reduce=multiply": (lambda x, i, s: torch.scatter(x, 1, wide(i), s, reduce="multiply"), "prod"),
    "a number, multiplied": (lambda x, i, s: torch.scatter(x, 1, wide(i), 2.0, reduce="multiply"), "prod"),
    "a larger source": (lambda x, i, s: x.scatter_add(1, wide(i), torch.cat([s, s], 1)), "sum"),
    "a repeated index": (lambda x, i, s: x.scatter_add(1, i[..., None].repeat(1, 1, 5), s), "sum"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_becomes_scatter_rows(spelling: str) -> None:
    function, reduce = SPELLINGS[spelling]
    program, firings = raised(function, BASE, INDEX, SRC)
    (rows,) = nodes_of(program, SCATTER_ROWS)
    assert rows.args[3] == reduce
    assert refusals(firings) == []


@pytest.mark.parametrize(
    "function",
    [
        lambda x, i, s: x.scatter(1, wide(i), s),
        lambda x, i, s: x.clone().scatter_(dim=1, index=wide(i), src=s),
        lambda x, i, s: x.scatter(1, wide(i), 7.0),
    ],
    ids=["scatter", "scatter_", "a number"],
)
def test_overwriting(function: Callable[..., Tensor]) -> None:
    program, firings = raised(function, BASE, DISTINCT, SRC)
    (rows,) = nodes_of(program, SCATTER_ROWS)
    assert rows.args[3] == "set"
    assert refusals(firings) == []


def test_counts_of_one_channel() -> None:
    program, _ = raised(lambda x, i, s: x[..., 0].scatter_add(1, i, s[..., 0]), BASE, INDEX, SRC)
    (rows,) = nodes_of(program, SCATTER_ROWS)
    assert value_of(rows).shape == (2, 6, 1)


def test_an_index_of_its_own_for_each_channel_gives_each_channel_its_row() -> None:
    index = torch.randint(6, (2, 3, 5), generator=G)
    program, firings = raised(lambda x, i, s: x.scatter_add(1, i, s), BASE, index, SRC)
    (rows,) = nodes_of(program, SCATTER_ROWS)
    assert value_of(rows).shape == (10, 6, 1)
    assert refusals(firings) == []


def test_along_the_last_dimension() -> None:
    src = torch.randn(2, 6, 3, generator=G)
    raised(lambda x, i, s: x.scatter_add(2, i.unsqueeze(1).expand(-1, 6, -1), s), BASE, INDEX.clamp(max=4), src)


def test_an_index_may_cover_a_part_of_the_channels_and_the_batch() -> None:
    for function in (
        lambda x, i, s: x.scatter_add(1, i[..., None].expand(-1, -1, 4), s),
        lambda x, i, s: x.scatter_reduce(1, i[:1, :, None].expand(-1, -1, 3), s, "amax"),
        lambda x, i, s: x.transpose(0, 1).scatter(0, i.mT[..., None].expand(-1, -1, 2), 1.0),
    ):
        program, firings = raised(function, BASE, DISTINCT, SRC)
        assert len(nodes_of(program, SCATTER_ROWS)) == 1
        assert refusals(firings) == []


def test_a_scalar_is_refused() -> None:
    zero = torch.zeros((), dtype=torch.int64)
    _, firings = raised(lambda x: x.sum().scatter_add(0, zero, x.sum()), BASE)
    assert refusals(firings) == ["a scalar has no rows"]
