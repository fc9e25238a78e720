"""Each operation of the dialect against loops over Python numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tm_export.exporters.graph import dialect

sizes = st.integers(1, 6)
numbers = st.one_of(st.integers(-2, 2).map(float), st.floats(-4, 4, width=32), st.just(-math.inf))


def tensors(data: st.DataObject, *shape: int, elements: st.SearchStrategy[float] = numbers) -> Tensor:
    count = math.prod(shape)
    return torch.tensor(data.draw(st.lists(elements, min_size=count, max_size=count))).reshape(shape)


@given(st.data(), sizes, sizes, st.booleans())
def test_order_sorts_and_equal_keys_keep_their_order(data: st.DataObject, B: int, N: int, descending: bool) -> None:
    keys, k = tensors(data, B, N), data.draw(st.integers(1, N))
    expected = [sorted(range(N), key=lambda n, row=row: -row[n] if descending else row[n])[:k] for row in keys.tolist()]
    assert dialect.order(keys, k, descending).tolist() == expected


@given(st.data(), sizes, sizes, sizes, st.booleans())
def test_best_is_the_first_among_equals(data: st.DataObject, B: int, M: int, N: int, largest: bool) -> None:
    scores = tensors(data, B, M, N)
    pick = max if largest else min
    expected = [[row.index(pick(row)) for row in rows] for rows in scores.tolist()]
    assert dialect.best(scores, largest).tolist() == expected


@given(st.data(), sizes, sizes, sizes, sizes)
def test_gather_rows_copies_whole_rows(data: st.DataObject, B: int, N: int, K: int, C: int) -> None:
    x = tensors(data, B, N, C)
    index = tensors(data, B, K, elements=st.integers(0, N - 1)).long()
    expected = [[x[b, n].tolist() for n in row] for b, row in enumerate(index.tolist())]
    assert dialect.gather_rows(x, index).tolist() == expected


REDUCE = {
    "sum": math.fsum,
    "mean": lambda rows: math.fsum(rows) / len(rows),
    "amax": max,
    "amin": min,
    "prod": math.prod,
}


@given(st.data(), sizes, sizes, sizes, sizes, st.sampled_from(sorted(REDUCE)), st.booleans())
def test_scatter_rows_reduces_what_meets(
    data: st.DataObject, B: int, M: int, K: int, C: int, reduce: str, include_base: bool
) -> None:
    whole = st.integers(-3, 3).map(float)
    base, src = tensors(data, B, M, C, elements=whole), tensors(data, B, K, C, elements=whole)
    index = tensors(data, B, K, elements=st.integers(0, M - 1)).long()
    expected = base.clone()
    for b in range(B):
        for m in range(M):
            for c in range(C):
                arriving = [src[b, k, c].item() for k in range(K) if index[b, k] == m]
                if arriving:
                    own = [base[b, m, c].item()] if include_base else []
                    expected[b, m, c] = REDUCE[reduce]([*own, *arriving])
    torch.testing.assert_close(dialect.scatter_rows(base, index, src, reduce, include_base), expected)


@given(st.data(), sizes, sizes, sizes)
def test_scatter_rows_by_set_overwrites(data: st.DataObject, B: int, M: int, C: int) -> None:
    K = data.draw(st.integers(1, M))
    base, src = tensors(data, B, M, C), tensors(data, B, K, C)
    index = torch.tensor([data.draw(st.permutations(range(M)))[:K] for _ in range(B)])
    expected = base.clone()
    for b in range(B):
        for k in range(K):
            expected[b, index[b, k]] = src[b, k]
    assert torch.equal(dialect.scatter_rows(base, index, src, "set", True), expected)


@given(st.data(), sizes, sizes, sizes)
def test_pair_mean_and_repeat(data: st.DataObject, B: int, half: int, C: int) -> None:
    x = tensors(data, B, 2 * half, C, elements=st.floats(-4, 4, width=32))
    means = dialect.pair_mean(x)
    repeated = dialect.pair_repeat(means)
    for t in range(half):
        torch.testing.assert_close(means[:, t], (x[:, 2 * t] + x[:, 2 * t + 1]) / 2)
        assert torch.equal(repeated[:, 2 * t], means[:, t])
        assert torch.equal(repeated[:, 2 * t + 1], means[:, t])
    assert repeated.shape == x.shape


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        (dialect.ORDER, (torch.randn(2, 5), 3, True)),
        (dialect.BEST, (torch.randn(2, 5, 4), False)),
        (dialect.GATHER_ROWS, (torch.randn(2, 5, 4), torch.randint(5, (2, 3)))),
        (dialect.SCATTER_ROWS, (torch.randn(2, 5, 4), torch.randint(5, (2, 3)), torch.randn(2, 3, 4), "sum", True)),
        (dialect.PAIR_MEAN, (torch.randn(2, 6, 4),)),
        (dialect.PAIR_REPEAT, (torch.randn(2, 3, 4),)),
    ],
    ids=["order", "best", "gather_rows", "scatter_rows", "pair_mean", "pair_repeat"],
)
def test_traced_shapes_and_dtypes_are_those_of_the_operation(operation: object, arguments: tuple[object, ...]) -> None:
    torch.library.opcheck(operation, arguments, test_utils=("test_schema", "test_faketensor"))
