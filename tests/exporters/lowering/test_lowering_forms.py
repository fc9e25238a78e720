"""Every form of every operation against the dialect's own: equal decisions, equal rows."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.support.programs import operators, program_of, run
from tm_export.exporters.graph import dialect
from tm_export.exporters.lowering.arith_form import ArithForm, position_of_max
from tm_export.exporters.lowering.choose import lower_merges
from tm_export.exporters.lowering.cost import COREML, EXACT_IN_FP16, ONNX_CPU, PORTABLE, XNNPACK, CostModel
from tm_export.exporters.lowering.form import Form
from tm_export.exporters.lowering.gather_form import GatherForm
from tm_export.exporters.lowering.onehot_form import OneHotForm
from tm_export.exporters.lowering.pairs import lower_pair_mean, lower_pair_repeat
from tm_export.exporters.lowering.rank_form import RankForm
from tm_export.exporters.lowering.rows_form import RowsForm
from tm_export.exporters.lowering.selection import Selection, joined, of_index
from tm_export.exporters.merging.raise_merges import raise_merges
from tm_export.exporters.merging.work import Work
from tm_export.exporters.options import ExportOptions

FORMS: tuple[Form, ...] = (GatherForm(), RowsForm(), OneHotForm(), RankForm(), ArithForm())
STABLE: tuple[Form, ...] = (RankForm(), ArithForm())
each_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
each_stable_form = pytest.mark.parametrize("form", STABLE, ids=lambda form: type(form).__name__)

sizes = st.integers(1, 7)
scores = st.one_of(
    st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 1.0]),  # protected tokens and ties
    st.floats(-(2.0**20), 2.0**20, width=32),  # subnormal numbers too
)
entries = st.floats(-8, 8, width=32)


def tensors(data: st.DataObject, elements: st.SearchStrategy[float], *shape: int) -> Tensor:
    count = math.prod(shape)
    return torch.tensor(data.draw(st.lists(elements, min_size=count, max_size=count))).reshape(shape)


def check_views(selection: Selection, expected: Tensor, candidates: int) -> None:
    """All views of a selection say the same."""
    assert torch.equal(selection.index_BK, expected)
    assert torch.equal(selection.position_BK, expected.float())
    assert torch.equal(selection.onehot_BKN, torch.nn.functional.one_hot(expected, candidates).float())


@each_stable_form
@given(data=st.data(), B=sizes, N=sizes, descending=st.booleans())
def test_order_by_comparison_is_exact_with_ties_and_infinities(
    form: Form, data: st.DataObject, B: int, N: int, descending: bool
) -> None:
    keys, k = tensors(data, scores, B, N), data.draw(st.integers(1, N))
    check_views(form.order(keys, k, descending), dialect.order(keys, k, descending), N)


@each_form
@given(data=st.data(), B=sizes, N=sizes, descending=st.booleans())
def test_order_sorts(form: Form, data: st.DataObject, B: int, N: int, descending: bool) -> None:
    """Of equal keys topk may take either: the keys in their order are what must be equal."""
    keys, k = tensors(data, scores, B, N), data.draw(st.integers(1, N))
    index = form.order(keys, k, descending).index_BK
    assert torch.equal(keys.gather(1, index), keys.gather(1, dialect.order(keys, k, descending)))
    assert all(len(set(row)) == k for row in index.tolist())


@each_form
@given(data=st.data(), B=sizes, M=sizes, N=sizes, largest=st.booleans())
def test_best_is_exact_with_ties_and_infinities(
    form: Form, data: st.DataObject, B: int, M: int, N: int, largest: bool
) -> None:
    values = tensors(data, scores, B, M, N)
    check_views(form.best(values, largest), dialect.best(values, largest), N)


@each_stable_form
def test_neighbouring_floats_are_told_apart(form: Form) -> None:
    """Cosines that differ in the last bit."""
    steps = [0.75]
    for _ in range(40):
        steps.append(float(torch.nextafter(torch.tensor(steps[-1]), torch.tensor(1.0))))
    keys = torch.tensor([steps])[:, torch.randperm(41, generator=torch.Generator().manual_seed(0))]
    assert torch.equal(form.order(keys, 41, True).index_BK, dialect.order(keys, 41, True))
    matrix = keys.reshape(1, 1, 41)
    assert torch.equal(form.best(matrix, True).index_BK, dialect.best(matrix, True))


@each_form
def test_a_row_of_nothing_but_infinity_has_a_best(form: Form) -> None:
    values = torch.tensor([[[-math.inf] * 5, [-math.inf, 1.0, -math.inf, 2.0, 2.0]]])
    assert form.best(values, True).index_BK.tolist() == [[0, 3]]


@each_form
def test_protected_tokens_come_last(form: Form) -> None:
    keys = torch.tensor([[0.5, -math.inf, 0.75, 0.25]])
    assert form.order(keys, 4, True).index_BK.tolist() == [[2, 0, 3, 1]]


@each_form
@given(data=st.data(), B=sizes, N=sizes, K=sizes, C=sizes)
def test_gather_copies_rows(form: Form, data: st.DataObject, B: int, N: int, K: int, C: int) -> None:
    x, index = tensors(data, entries, B, N, C), tensors(data, st.integers(0, N - 1), B, K).long()
    assert torch.equal(form.gather(x, of_index(index, N)), dialect.gather_rows(x, index))


@each_form
def test_gathered_scores_may_be_infinite(form: Form) -> None:
    """A protected token's score is gathered beside the others: 0 · ∞ must not spoil theirs."""
    x, index = torch.tensor([[[1.0], [-math.inf], [3.0]]]), torch.tensor([[2, 0]])
    assert form.gather(x, of_index(index, 3)).flatten().tolist() == [3.0, 1.0]


@each_form
@pytest.mark.parametrize("reduce", ["sum", "mean", "amax", "amin", "prod"])
@given(data=st.data(), B=sizes, M=sizes, K=sizes, C=sizes, include_base=st.booleans())
def test_scatter_reduces_rows(
    form: Form, reduce: str, data: st.DataObject, B: int, M: int, K: int, C: int, include_base: bool
) -> None:
    base, src = tensors(data, entries, B, M, C), tensors(data, entries, B, K, C)
    index = tensors(data, st.integers(0, M - 1), B, K).long()
    torch.testing.assert_close(
        form.scatter(base, of_index(index, M), src, reduce, include_base),
        dialect.scatter_rows(base, index, src, reduce, include_base),
        rtol=1e-6,
        atol=1e-5,
    )


@each_form
@given(data=st.data(), B=sizes, M=sizes, C=sizes)
def test_scatter_overwrites_rows(form: Form, data: st.DataObject, B: int, M: int, C: int) -> None:
    K = data.draw(st.integers(1, M))
    base, src = tensors(data, entries, B, M, C), tensors(data, entries, B, K, C)
    index = torch.tensor([data.draw(st.permutations(range(M)))[:K] for _ in range(B)])
    result = form.scatter(base, of_index(index, M), src, "set", True)
    assert torch.equal(result, dialect.scatter_rows(base, index, src, "set", True))


@each_form
def test_a_masked_maximum_in_several_steps(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    base, src = torch.randn(2, 5, 3, generator=generator), torch.randn(2, 8, 3, generator=generator)
    index = torch.randint(5, (2, 8), generator=generator)
    monkeypatch.setattr("tm_export.exporters.lowering.form.MAX_SELECT_ELEMENTS", 3 * 5 * 3)
    for reduce in ("amax", "amin"):
        for include_base in (True, False):
            got = form.scatter(base, of_index(index, 5), src, reduce, include_base)
            assert torch.equal(got, dialect.scatter_rows(base, index, src, reduce, include_base))


@given(data=st.data(), B=sizes, M=sizes, N=sizes)
def test_the_first_maximum_by_halving(data: st.DataObject, B: int, M: int, N: int) -> None:
    x = tensors(data, entries, B, M, N)
    assert torch.equal(position_of_max(x).squeeze(-1).long(), x.argmax(-1))


@given(data=st.data(), B=sizes, half=sizes, C=sizes)
def test_pairs_are_halves_of_a_view(data: st.DataObject, B: int, half: int, C: int) -> None:
    x = tensors(data, entries, B, 2 * half, C)
    assert torch.equal(lower_pair_mean(x), dialect.pair_mean(x))
    assert torch.equal(lower_pair_repeat(x), dialect.pair_repeat(x))


# What people do with an index between the decision and its use.


@each_form
@given(data=st.data(), B=sizes, N=st.integers(2, 7))
def test_cut_and_joined(form: Form, data: st.DataObject, B: int, N: int) -> None:
    keys, r = (
        torch.tensor(data.draw(st.permutations(range(B * N)))).reshape(B, N).float(),
        data.draw(st.integers(1, N - 1)),
    )
    order, expected = form.order(keys, N, True), dialect.order(keys, N, True)
    check_views(order.cut(0, r), expected[:, :r], N)
    check_views(order.cut(r, N), expected[:, r:], N)
    swapped = joined([order.cut(r, N), order.cut(0, r)])
    check_views(swapped, torch.cat([expected[:, r:], expected[:, :r]], 1), N)


@each_form
@pytest.mark.parametrize("other", FORMS, ids=lambda form: type(form).__name__)
def test_a_choice_among_the_chosen(form: Form, other: Form) -> None:
    """`partner.gather(1, gone)`: `best` of one form indexed by `order` of another, cut and joined on the way."""
    generator = torch.Generator().manual_seed(0)
    matrix, keys = torch.randn(2, 6, 9, generator=generator), torch.randn(2, 6, generator=generator)
    partner, gone = form.best(matrix, True), other.order(keys, 6, True).cut(1, 4)
    expected = dialect.best(matrix, True).gather(1, dialect.order(keys, 6, True)[:, 1:4])
    check_views(partner.then(gone), expected, 9)
    check_views(partner.then(gone).cut(1, 3), expected[:, 1:], 9)
    check_views(joined([partner.then(gone), of_index(expected, 9)]), torch.cat([expected, expected], 1), 9)


MODELS = {
    "onnx": (ONNX_CPU, ("gather", "onehot", "rank")),
    "xnnpack": (XNNPACK, ("gather", "onehot", "arith")),
    "portable": (PORTABLE, ("gather", "onehot", "rank")),
    "coreml": (COREML, ("gather", "onehot", "rank")),
}


def merge(x: Tensor) -> tuple[Tensor, Tensor]:
    """ToMe with a class token: the rest is sorted, so that the class token stays in front."""
    a, b = x[:, ::2], x[:, 1::2]
    similarity = a @ b.mT
    similarity[:, 0] = -math.inf
    best, partner = similarity.max(-1)
    order = best.argsort(-1, descending=True)
    gone, kept = order[:, :3], order[:, 3:].sort(1).values
    into = partner.gather(1, gone)[..., None].expand(-1, -1, x.shape[-1])
    moved = a.gather(1, gone[..., None].expand(-1, -1, x.shape[-1]))
    merged = b.scatter_reduce(1, into, moved, "mean")
    return torch.cat([a.gather(1, kept[..., None].expand(-1, -1, x.shape[-1])), merged], 1), kept


@pytest.mark.parametrize(("name", "form"), [(name, form) for name, (_, forms) in MODELS.items() for form in forms])
def test_a_whole_merge_in_every_form(name: str, form: str) -> None:
    x = torch.randn(2, 13, 4, generator=torch.Generator().manual_seed(0))
    raised = raise_merges(program_of(merge, x), seed=0)
    lowered = lower_merges(raised.program, MODELS[name][0], ExportOptions(merge_lowering=form), half=False)  # type: ignore[arg-type]
    wanted, kept = merge(x)
    got, kept_got = run(lowered, x)
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)
    assert torch.equal(kept_got, kept)
    assert kept_got.dtype == torch.int64 and kept_got[:, 0].tolist() == [0, 0]  # the class token stays first
    found = operators(lowered)
    assert not {"order", "best", "gather_rows", "scatter_rows"} & set(found)
    forbidden = {
        "gather": {"sort", "scatter_reduce", "scatter_add"},
        "onehot": {"sort", "scatter_reduce", "index_put"},
        "rank": {"sort", "topk", "argmax", "gather", "index_select", "index_put", "scatter_reduce"},
        "arith": {"sort", "topk", "argmax", "gather", "index_select", "index_put", "scatter_reduce", "eq", "gt"},
    }
    assert not forbidden[form] & set(found)


def work(candidates: int, **changes: int) -> Work:
    values = {
        "sorted_elements": candidates,
        "compared_pairs": candidates**2,
        "scored_elements": candidates**2,
        "moved_elements": candidates * 64,
        "matmul_macs": candidates**2 * 8,
        "onehot_elements": candidates * 8,
        "operations": 4,
    }
    return Work(candidates=candidates, **(values | changes))


@pytest.mark.parametrize("costs", [costs for costs, _ in MODELS.values()], ids=list(MODELS))
def test_the_cheapest_form_is_chosen_and_no_rank_in_half_precision_above_2048(costs: CostModel) -> None:
    small, large = work(EXACT_IN_FP16), work(EXACT_IN_FP16 + 1)
    for some, half in ((small, True), (small, False), (large, False)):
        prices = {form: costs.nanoseconds(form, some) for form in costs.forms}
        assert costs.cheapest(some, half=half) == min(prices, key=prices.__getitem__)
    assert costs.cheapest(large, half=True) not in ("rank", "arith")


def test_half_precision_changes_core_mls_choice_above_2048() -> None:
    tokens = work(EXACT_IN_FP16 + 1, compared_pairs=0, scored_elements=0, matmul_macs=0, onehot_elements=0)
    assert COREML.cheapest(replace(tokens, candidates=EXACT_IN_FP16), half=True) == "rank"
    assert COREML.cheapest(tokens, half=False) == "rank"
    assert COREML.cheapest(tokens, half=True) != "rank"


def test_costs_grow_with_the_work() -> None:
    for costs, forms in MODELS.values():
        for form in forms:
            assert costs.nanoseconds(form, work(64)) < costs.nanoseconds(form, work(256))


def halves(x: Tensor, gone: Tensor, kept: Tensor, into: Tensor, reduce: str) -> Tensor:
    """ToMe's merge, from indices into the halves of even and odd rows."""
    a, b, c = x[:, ::2], x[:, 1::2], x.shape[-1]
    wide = [index[..., None].expand(-1, -1, c) for index in (gone, kept, into)]
    b = b.scatter_reduce(1, wide[2], a.gather(1, wide[0]), reduce)
    return torch.cat([a.gather(1, wide[1]), b], 1)


def merged_by_scores(x: Tensor, r: int, reduce: str) -> Tensor:
    best, into = (x[:, ::2] @ x[:, 1::2].mT).max(-1)
    order = best.argsort(-1, descending=True)
    return halves(x, order[:, :r], order[:, r:], into.gather(1, order[:, :r]), reduce)


@pytest.mark.parametrize("cost_model", [ONNX_CPU, XNNPACK], ids=lambda model: model.name)
@pytest.mark.parametrize("reduce", ["sum", "mean", "amax"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("tokens", [16, 17])
def test_a_merge_put_together_is_the_merge(cost_model: CostModel, reduce: str, batch: int, tokens: int) -> None:
    x = torch.randn(batch, tokens, 6, generator=torch.Generator().manual_seed(3))
    program = raise_merges(program_of(lambda x: merged_by_scores(x, 5, reduce), x), 0).program
    options = ExportOptions(merge_lowering="gather")
    lowered = lower_merges(program, cost_model, options, half=False)
    torch.testing.assert_close(run(lowered, x)[0], merged_by_scores(x, 5, reduce))


@pytest.mark.parametrize("cost_model", [ONNX_CPU, XNNPACK], ids=lambda model: model.name)
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_a_merge_copies_the_kept_rows_once(cost_model: CostModel, reduce: str) -> None:
    x = torch.randn(1, 16, 6, generator=torch.Generator().manual_seed(3))
    program = raise_merges(program_of(lambda x: merged_by_scores(x, 5, reduce), x), 0).program
    lowered = lower_merges(program, cost_model, ExportOptions(merge_lowering="gather"), half=False)
    rows = [node.meta["val"] for node in lowered.graph.nodes if node.target is torch.ops.aten.index_select.default]
    assert sorted(tuple(value.shape) for value in rows) == [(1, 5, 6), (1, 11, 6)]
    joints = [node.meta["val"] for node in lowered.graph.nodes if node.target is torch.ops.aten.cat.default]
    assert not any(value.is_floating_point() for value in joints)


def test_rows_that_are_read_by_themselves_too_are_right() -> None:
    """A part of what is put together that has other readers is not computed into the whole only."""

    def read_twice(x: Tensor) -> tuple[Tensor, Tensor]:
        order = x[..., 0].argsort(-1, descending=True)
        wide = order[..., None].expand(-1, -1, x.shape[-1])
        kept, gone = x.gather(1, wide[:, 3:]), x.gather(1, wide[:, :3])
        return torch.cat([kept, gone], 1), gone * 2

    x = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(3))
    program = raise_merges(program_of(read_twice, x), 0).program
    lowered = lower_merges(program, ONNX_CPU, ExportOptions(merge_lowering="gather"), half=False)
    torch.testing.assert_close(run(lowered, x), read_twice(x))


@given(data=st.data(), K=sizes, N=sizes, start=st.integers(0, 4), behind=st.integers(0, 4))
def test_a_shifted_selection(data: st.DataObject, K: int, N: int, start: int, behind: int) -> None:
    index = torch.tensor(data.draw(st.lists(st.integers(0, N - 1), min_size=K, max_size=K)))[None]
    total = start + N + behind
    check_views(of_index(index, N).shifted(start, total), index + start, total)
