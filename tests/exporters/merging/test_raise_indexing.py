"""Indexing by tensors becomes `gather_rows`, writing through an index `scatter_rows`."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.support.programs import nodes_of, operators, raised, refusals
from tm_export.exporters.graph.dialect import GATHER_ROWS, SCATTER_ROWS
from tm_export.exporters.graph.nodes import value_of

G = torch.Generator().manual_seed(0)
X = torch.randn(2, 6, 5, generator=G)
SRC = torch.randn(2, 3, 5, generator=G)
INDEX = torch.tensor([[1, 4, 1], [0, 0, 5]])
DISTINCT = torch.tensor([[1, 4, 2], [0, 3, 5]])
BATCH = torch.arange(2)[:, None]

READS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "x[batch, index]": lambda x, i: x[torch.arange(2)[:, None], i],
    "x[batch expanded, index]": lambda x, i: x[torch.arange(2)[:, None].expand(-1, 3), i],
    "x[:, index]": lambda x, i: x[:, i[0]],
    "x[..., index, :]": lambda x, i: x[..., i[1], :],
    "index_select": lambda x, i: x.index_select(1, i[0]),
    "index_select last": lambda x, i: torch.index_select(x, -1, i[0].clamp(max=4)),
    "from the end": lambda x, i: x[:, i[0] - 6],
    "per batch from the end": lambda x, i: x[torch.arange(2)[:, None], i - 6],
}


@pytest.mark.parametrize("spelling", READS)
def test_every_read_becomes_gather_rows(spelling: str) -> None:
    program, firings = raised(READS[spelling], X, INDEX)
    (rows,) = nodes_of(program, GATHER_ROWS)
    assert value_of(rows.args[1]).shape == (rows.meta["val"].shape[0], 3)  # type: ignore[arg-type]
    assert refusals(firings) == []
    assert not {"index", "index_select"} & set(operators(program))


WRITES: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Tensor], str]] = {
    "index_put accumulate": (lambda x, i, s: x.index_put((torch.arange(2)[:, None], i), s, accumulate=True), "sum"),
    "index_put_ accumulate": (lambda x, i, s: x.clone().index_put_((torch.arange(2)[:, None], i), s, True), "sum"),
    "index_add": (lambda x, i, s: x.index_add(1, i[0], s), "sum"),
    "index_add_ alpha": (lambda x, i, s: x.clone().index_add_(1, i[0], s, alpha=0.5), "sum"),
    "one row added to many": (lambda x, i, s: x.index_put((torch.arange(2)[:, None], i), s[:1, :1], True), "sum"),
}


@pytest.mark.parametrize("spelling", WRITES)
def test_every_sum_becomes_scatter_rows(spelling: str) -> None:
    function, reduce = WRITES[spelling]
    program, firings = raised(function, X, INDEX, SRC)
    (rows,) = nodes_of(program, SCATTER_ROWS)
    assert rows.args[3:] == (reduce, True)
    assert refusals(firings) == []
    assert not {"index_put", "index_add", "index_copy"} & set(operators(program))


def assign(x: Tensor, index: Tensor, src: Tensor) -> Tensor:
    out = x.clone()
    out[torch.arange(2)[:, None], index] = src
    return out


def assign_number(x: Tensor, index: Tensor, src: Tensor) -> Tensor:
    out = x.clone()
    out[:, index[0]] = 3.0
    return out


@pytest.mark.parametrize(
    "function", [assign, assign_number, lambda x, i, s: x.index_copy(1, i[0], s)], ids=["out[b, i] =", "number", "copy"]
)
def test_every_assignment_becomes_scatter_rows(function: Callable[..., Tensor]) -> None:
    program, firings = raised(function, X, DISTINCT, SRC)
    (rows,) = nodes_of(program, SCATTER_ROWS)
    assert rows.args[3] == "set"
    assert refusals(firings) == []


def test_flattened_batch() -> None:
    """As TCFormer does: labels of all batches in one vector, each batch's shifted by its own offset."""

    def total(x: Tensor, label: Tensor) -> Tensor:
        flat = (label + torch.arange(2)[:, None] * 6).reshape(-1)
        return x.new_zeros(12, 5).index_add(0, flat, x[:, :3].reshape(6, 5)).reshape(2, 6, 5)

    program, _ = raised(total, X, INDEX)
    assert len(nodes_of(program, SCATTER_ROWS)) == 1


def test_an_index_known_at_export_is_left_alone() -> None:
    program, firings = raised(lambda x: x[:, torch.tensor([3, 1, 2])], X)
    assert refusals(firings) == ["the index is known at export"]
    assert operators(program)["index"] + operators(program)["index_select"] == 1


REFUSED: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str]] = {
    "two dimensions of index": (lambda x, i: x[:, i], "an index of more than one dimension adds dimensions"),
    "two indices": (lambda x, i: x[:, i[0], i[1].clamp(max=4)], "more than one dimension is indexed"),
    "another batch": (lambda x, i: x[i[0].clamp(max=1)[:, None], i[:1]], "the first index is not the position"),
    "batch reversed": (lambda x, i: x[1 - torch.arange(2)[:, None], i], "the first index is not the position"),
}


@pytest.mark.parametrize("spelling", REFUSED)
def test_what_is_no_selection_of_rows_is_refused(spelling: str) -> None:
    function, reason = REFUSED[spelling]
    program, firings = raised(function, X, INDEX)
    assert any(found.startswith(reason) for found in refusals(firings))
    assert operators(program)["index"] == 1


def test_a_mask_that_depends_on_the_input_is_refused() -> None:
    program, firings = raised(lambda x, s: x.index_put((s[:, :, 0] > 0,), torch.tensor(0.0)), X, X)
    assert refusals(firings) == ["a mask chooses a number of rows that depends on data"]
    assert operators(program)["index_put"] == 1
