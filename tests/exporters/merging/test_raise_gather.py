"""Gathers of whole rows, however the index was expanded, become `gather_rows` of the index before that."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.support.programs import nodes_of, operators, raised, refusals
from tm_export.exporters.graph.dialect import GATHER_ROWS
from tm_export.exporters.graph.nodes import value_of

G = torch.Generator().manual_seed(0)
X = torch.randn(2, 6, 5, generator=G)
INDEX = torch.randint(6, (2, 3), generator=G)

SPELLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "expand": lambda x, i: x.gather(1, i.unsqueeze(-1).expand(-1, -1, 5)),
    "expand_as": lambda x, i: x.gather(1, i[..., None].expand_as(x[:, :3])),
    "repeat": lambda x, i: x.gather(1, i[:, :, None].repeat(1, 1, 5)),
    "negative dim": lambda x, i: torch.gather(x, -2, i.unsqueeze(2).expand(2, 3, 5)),
    "take_along_dim": lambda x, i: torch.take_along_dim(x, i[:, :, None], dim=1),
    "take_along_dim expanded": lambda x, i: torch.take_along_dim(x, i[:, :, None].expand(-1, -1, 5), 1),
    "contiguous": lambda x, i: x.gather(1, i[..., None].expand(-1, -1, 5).contiguous()),
    "shifted after expanding": lambda x, i: x.gather(1, (i[..., None].expand(-1, -1, 5) + 1) % 6),
    "sliced after expanding": lambda x, i: x.gather(1, i[..., None].expand(-1, -1, 8)[:, 1:, :5]),
    "concatenated": lambda x, i: x.gather(1, torch.cat([i, i], 1)[..., None].expand(-1, -1, 5)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_becomes_gather_rows(spelling: str) -> None:
    program, firings = raised(SPELLINGS[spelling], X, INDEX)
    (rows,) = nodes_of(program, GATHER_ROWS)
    assert value_of(rows.args[1]).dim() == 2  # type: ignore[arg-type]
    assert refusals(firings) == []
    assert not {"gather", "take_along_dim"} & set(operators(program))


def test_a_gather_of_scores_has_one_channel() -> None:
    program, _ = raised(lambda x, i: x.gather(1, i), X[..., 0], INDEX)
    (rows,) = nodes_of(program, GATHER_ROWS)
    assert value_of(rows).shape == (2, 3, 1)


def test_of_four_dimensions() -> None:
    x = torch.randn(2, 3, 6, 5, generator=G)
    index = torch.randint(6, (2, 3, 4, 1), generator=G)
    program, _ = raised(lambda x, i: x.gather(2, i.expand(-1, -1, -1, 5)), x, index)
    (rows,) = nodes_of(program, GATHER_ROWS)
    assert value_of(rows).shape == (6, 4, 5)


def test_along_the_last_dimension() -> None:
    raised(lambda x, i: x.gather(2, i.unsqueeze(1).expand(-1, 6, -1)), X, INDEX.clamp(max=4))


def test_an_index_of_its_own_for_each_channel_is_refused() -> None:
    index = torch.randint(6, (2, 3, 5), generator=G)
    program, firings = raised(lambda x, i: x.gather(1, i), X, index)
    assert refusals(firings) == ["the index differs from channel to channel"]
    assert operators(program)["gather"] == 1


def test_an_index_may_cover_a_part_of_the_channels_or_the_batch() -> None:
    for function in (
        lambda x, i: x.gather(1, i[..., None].expand(-1, -1, 4)),
        lambda x, i: x.gather(1, i[:1, :, None].expand(-1, -1, 5)),
    ):
        program, firings = raised(function, X, INDEX)
        assert len(nodes_of(program, GATHER_ROWS)) == 1
        assert refusals(firings) == []


def test_a_tensor_that_is_spread_along_with_its_index_is_refused() -> None:
    _, firings = raised(lambda x, i: torch.take_along_dim(x[:1], i[..., None], 1), X, INDEX)
    assert refusals(firings) == ["the index and the tensor are both spread over other dimensions"]


def test_an_index_into_the_flattened_tensor_is_refused() -> None:
    _, firings = raised(lambda x, i: torch.take_along_dim(x, i), X, INDEX.flatten())
    assert "the index counts the elements of the whole tensor" in refusals(firings)


def test_a_scalar_is_refused() -> None:
    _, firings = raised(lambda x: x.sum().gather(0, torch.zeros((), dtype=torch.int64)), X)
    assert refusals(firings) == ["a scalar has no rows"]
