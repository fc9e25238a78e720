"""Partitions against all there are: of random programs, every choice of cuts is tried."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from tm_export.exporters.capture.capture import capture
from tm_export.exporters.errors import BudgetExceeded, ExitCode
from tm_export.exporters.graph.liveness import Liveness, Operator, liveness_of, weight_bytes
from tm_export.exporters.partition.search import Partition, partition


@dataclass(frozen=True)
class Op:
    """One operator of a made-up program: it reads values (0 is the input, i + 1 what operator i made) and weights."""

    reads: tuple[int, ...]
    weights: tuple[str, ...]
    elements: int
    token: int
    is_float: bool = True
    constant_bytes: int = 0


@dataclass(frozen=True)
class Values:
    """When the values of a program are alive: made by which operator (−1: the input), last read by which."""

    made: tuple[int, ...]
    last: tuple[int, ...]
    bytes: tuple[int, ...]
    may_cross: tuple[bool, ...]

    @classmethod
    def of(cls, ops: Sequence[Op]) -> "Values":
        last = [max((i for i, op in enumerate(ops) if value in op.reads), default=-1) for value in range(len(ops) + 1)]
        last[-1] = len(ops)  # what the last operator makes is returned
        sizes = (8, *(4 * op.elements if op.is_float else 8 * op.elements for op in ops))
        return cls(tuple(range(-1, len(ops))), tuple(last), sizes, (True, *(op.is_float for op in ops)))

    def crossing(self, cut: int) -> list[int]:
        return [value for value, made in enumerate(self.made) if made < cut <= self.last[value]]

    def peak(self, i: int) -> int:
        alive = (v for v, made in enumerate(self.made) if made <= i <= max(self.last[v], made))
        return sum(self.bytes[v] for v in alive)


def liveness(ops: Sequence[Op]) -> Liveness:
    """What `liveness_of` would find in a captured program of these operators."""
    graph, values = fx.Graph(), Values.of(ops)
    nodes = [graph.placeholder("x")]
    nodes[0].meta["val"] = torch.empty(2, device="meta")
    for op in ops:
        node = graph.call_function(torch.ops.aten.stack.default, ([nodes[value] for value in op.reads],))
        dtype = torch.float32 if op.is_float else torch.int64
        node.meta["val"] = torch.empty(op.elements, dtype=dtype, device="meta")
        nodes.append(node)
    operators = tuple(
        Operator(nodes[i + 1], op.weights, op.constant_bytes, values.peak(i), op.token) for i, op in enumerate(ops)
    )
    crossing = tuple(tuple(nodes[v] for v in values.crossing(cut)) for cut in range(len(ops) + 1))
    return Liveness(operators, crossing)


WEIGHT_BYTES = {f"w{i}": 8 * (i % 3 + 1) for i in range(40)}


@st.composite
def programs(draw: st.DrawFn) -> list[Op]:
    ops: list[Op] = []
    known: list[str] = []
    for i in range(draw(st.integers(1, 8))):
        skips = draw(st.lists(st.integers(0, i), max_size=1)) if i else []
        fresh = [f"w{len(known) + k}" for k in range(draw(st.integers(0, 2)))]
        again = draw(st.lists(st.sampled_from(known), max_size=1)) if known and draw(st.integers(0, 5)) == 0 else []
        known += fresh
        ops.append(
            Op(
                reads=(i, *skips),
                weights=(*fresh, *again),
                elements=draw(st.integers(1, 6)),
                token=draw(st.integers(1, 2)),
                is_float=draw(st.integers(0, 9)) > 0,
                constant_bytes=draw(st.sampled_from([0, 0, 4])),
            )
        )
    return ops


@st.composite
def same_weights_otherwise(draw: st.DrawFn, ops: Sequence[Op]) -> list[Op]:
    """A second variant: other sizes, operators in between, and perhaps two neighbouring weights in turned order."""
    order = [key for op in ops for key in op.weights]
    order = list(dict.fromkeys(order))
    if len(order) > 1 and draw(st.booleans()):
        i = draw(st.integers(0, len(order) - 2))
        order[i : i + 2] = order[i + 1], order[i]
    weights = [(key,) for key in order]
    for _ in range(draw(st.integers(0, 3))):
        weights.insert(draw(st.integers(0, len(weights))), ())
    return [Op((i,), keys, draw(st.integers(1, 6)), draw(st.integers(1, 2))) for i, keys in enumerate(weights or [()])]


Cuts = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Brute:
    """The documented rules, written down once more, and every partition tried."""

    variants: Sequence[Sequence[Op]]

    def ends(self) -> Cuts:
        return (0,) * len(self.variants), tuple(map(len, self.variants))

    def bytes_of(self, cut: tuple[int, ...]) -> int:
        """What crosses a cut in all variants; the ends cost nothing."""
        if cut in self.ends():
            return 0
        alive = [Values.of(ops) for ops in self.variants]
        return sum(v.bytes[value] for v, at in zip(alive, cut, strict=True) for value in v.crossing(at))

    def candidates(self) -> list[tuple[int, ...]]:
        common = set.intersection(*({key for op in ops for key in op.weights} for ops in self.variants))
        orders = [
            list(dict.fromkeys((key) for op in ops for key in op.weights if key in common)) for ops in self.variants
        ]
        found = []
        for k in range(1, len(common)):
            if len({frozenset(order[:k]) for order in orders}) > 1:
                continue
            cut = [self._place(ops, order[k - 1], order[k]) for ops, order in zip(self.variants, orders, strict=True)]
            if None not in cut:
                found.append(tuple(at for at in cut if at is not None))
        return found

    @staticmethod
    def _place(ops: Sequence[Op], before: str, after: str) -> int | None:
        """Behind the first use of one weight, up to that of the next: where the fewest bytes cross."""
        first = {key: i for i, op in reversed(list(enumerate(ops))) for key in op.weights}
        values = Values.of(ops)
        places = [
            (sum(values.bytes[v] for v in values.crossing(at)), at)
            for at in range(first[before] + 1, first[after] + 1)
            if all(values.may_cross[v] for v in values.crossing(at))
        ]
        return min(places)[1] if places else None

    def minima(self) -> list[tuple[int, ...]]:
        cuts = self.candidates()
        sizes = [self.bytes_of(cut) for cut in cuts]
        return [cut for i, cut in enumerate(cuts) if sizes[i] == min(sizes[max(i - 1, 0) : i + 2])]

    def need(self, start: tuple[int, ...], end: tuple[int, ...]) -> int:
        keys: set[str] = set()
        constants, peaks = 0, [0]
        for ops, a, b in zip(self.variants, start, end, strict=True):
            values = Values.of(ops)
            keys |= {key for op in ops[a:b] for key in op.weights}
            constants += sum(op.constant_bytes for op in ops[a:b])
            peaks += [values.peak(i) for i in range(a, b)]
        return sum(WEIGHT_BYTES[key] for key in keys) + constants + max(peaks)

    def cost(self, cuts: Cuts) -> tuple[int, int]:
        """Changes of program, and bytes over all cuts."""
        programs = [
            [[op.token for op in ops[a:b]] for ops, a, b in zip(self.variants, start, end, strict=True)]
            for start, end in itertools.pairwise(cuts)
        ]
        changes = sum(one != other for one, other in itertools.pairwise(programs))
        return changes, sum(self.bytes_of(cut) for cut in cuts)

    def fitting(self, places: Sequence[tuple[int, ...]], budget: int) -> Iterator[Cuts]:
        start, end = self.ends()
        for count in range(len(places) + 1):
            for chosen in itertools.combinations(places, count):
                cuts = (start, *chosen, end)
                if all(self.need(a, b) <= budget for a, b in itertools.pairwise(cuts)):
                    yield cuts

    def best(self, budget: int) -> tuple[int, int] | None:
        """The least cost among the minima, or if none of those fit among all candidates."""
        for places in (self.minima(), self.candidates()):
            costs = [self.cost(cuts) for cuts in self.fitting(places, budget)]
            if costs:
                return min(costs)
        return None


def parted(variants: Sequence[Sequence[Op]], budget: int | None) -> Partition | BudgetExceeded:
    try:
        return partition([liveness(ops) for ops in variants], WEIGHT_BYTES, budget)
    except BudgetExceeded as error:
        return error


def check(variants: Sequence[Sequence[Op]], budget: int) -> None:
    brute = Brute(variants)
    found, best = parted(variants, budget), brute.best(budget)
    if isinstance(found, BudgetExceeded):
        assert best is None
        return
    cuts = tuple(cut.positions for cut in found.cuts)
    assert (cuts[0], cuts[-1]) == brute.ends()
    for before, after in itertools.pairwise(cuts):
        assert all(a < b for a, b in zip(before, after, strict=True)) or len(cuts) == 2
    assert [need.bytes for need in found.needs] == [brute.need(a, b) for a, b in itertools.pairwise(cuts)]
    assert all(need.bytes <= budget for need in found.needs)
    assert [cut.bytes for cut in found.cuts] == [brute.bytes_of(cut) for cut in cuts]
    assert brute.cost(cuts) == best


@given(programs(), st.integers(1, 400))
def test_partition_is_the_best_of_all_that_fit(ops: list[Op], budget: int) -> None:
    check([ops], budget)


@given(st.data())
def test_partition_of_two_variants_is_the_best_of_all_that_fit(data: st.DataObject) -> None:
    ops = data.draw(programs())
    check([ops, data.draw(same_weights_otherwise(ops))], data.draw(st.integers(1, 600)))


@given(st.data())
def test_a_block_holds_the_same_weights_in_all_variants(data: st.DataObject) -> None:
    ops = data.draw(programs())
    variants = [ops, data.draw(same_weights_otherwise(ops))]
    found = parted(variants, data.draw(st.integers(40, 200)))
    assume(isinstance(found, Partition))
    assert isinstance(found, Partition)
    for start, end in itertools.pairwise(found.cuts):
        held = []
        for each, a, b in zip(variants, start.positions, end.positions, strict=True):
            before = {key for op in each[:a] for key in op.weights}
            held.append({key for op in each[a:b] for key in op.weights} - before)
        assert held[0] == held[1]


@given(programs(), st.integers(1, 60))
def test_budget_that_is_too_small_is_refused_with_the_least_that_is_enough(ops: list[Op], budget: int) -> None:
    error = parted([ops], budget)
    assume(isinstance(error, BudgetExceeded))
    assert isinstance(error, BudgetExceeded) and error.exit_code is ExitCode.BUDGET
    message = str(error).replace(",", "")
    needed = re.fullmatch(
        r"aten.stack.default at stack\w* needs (\d+) bytes \((\d+) of weights and (\d+) of activations\) "
        rf"and --block-budget is {budget}: give at least (\d+)",
        message,
    )
    assert needed, message
    total, weights, activations, least = map(int, needed.groups())
    assert total == weights + activations == least > budget
    assert isinstance(parted([ops], least), Partition)
    assert isinstance(parted([ops], least - 1), BudgetExceeded)


@given(programs())
def test_no_budget_and_a_large_one_give_one_block(ops: list[Op]) -> None:
    for budget in (None, 10**9):
        found = parted([ops], budget)
        assert isinstance(found, Partition)
        assert [cut.positions for cut in found.cuts] == [(0,), (len(ops),)]


class Wide(nn.Module):
    """Many weights and few activations, then many activations and few weights."""

    def __init__(self) -> None:
        super().__init__()
        self.large = nn.Linear(64, 64)
        self.small = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.small(torch.relu(self.large(x)).unsqueeze(-1)).squeeze(-1)


def in_blocks(module: nn.Module, x: Tensor, budget: int | None) -> Partition:
    program = capture(module, (x,))
    return partition([liveness_of(program)], weight_bytes(program, lambda weight: weight.nbytes), budget)


def test_the_operator_that_holds_the_weights_is_named_not_one_behind_it() -> None:
    torch.manual_seed(0)
    with pytest.raises(BudgetExceeded, match=r"^aten.linear.default at .*self.large\(x\).* needs 17,\d\d\d bytes"):
        in_blocks(Wide(), torch.randn(2, 64), 10_000)


class Skipped(nn.Module):
    """A layer whose input is alive until its end: between two of them is the only place where one tensor crosses."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(x)))


def test_equal_layers_become_equal_blocks() -> None:
    module = nn.Sequential(*(Skipped() for _ in range(6)))
    value, weights = 2 * 16 * 4, 2 * (16 * 16 + 16) * 4
    found = in_blocks(module, torch.randn(2, 16), 2 * weights + 4 * value)
    assert [cut.positions for cut in found.cuts] == [(0,), (8,), (16,), (24,)]  # of four operators each
    assert [cut.bytes for cut in found.cuts] == [0, value, value, 0]
    assert [(need.weight_bytes, need.activation_bytes) for need in found.needs] == [(2 * weights, 3 * value)] * 3


def test_a_view_takes_no_memory_of_its_own() -> None:
    def turned(x: Tensor) -> Tensor:
        return torch.relu(x.transpose(0, 1).reshape(-1).unsqueeze(0))

    class Turned(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return turned(x)

    live = liveness_of(capture(Turned(), (torch.randn(4, 1),)))
    whole = {str(op.node.target): op.peak_bytes for op in live.operators}
    assert whole["aten.transpose.int"] == whole["aten.unsqueeze.default"] == 16
    assert whole["aten.relu.default"] == 32


def test_an_index_never_crosses_a_cut() -> None:
    class Chosen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            order = self.first(x).argsort(dim=0)
            return self.second(x).gather(0, order)

    torch.manual_seed(0)
    with pytest.raises(BudgetExceeded):  # the only place between the two weights is one that `order` crosses
        in_blocks(Chosen(), torch.randn(4, 8), 600)


class TableAndProduct(nn.Module):
    """Rows of a table, then a product with a weight that is turned for it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(1000, 8)
        self.weight = nn.Parameter(torch.randn(200, 8))

    def forward(self, ids: Tensor) -> Tensor:
        return torch.relu(self.table(ids)) @ self.weight.transpose(0, 1)


def test_a_copy_of_a_weight_counts_while_it_is_read_and_a_table_is_not_copied() -> None:
    program = capture(TableAndProduct(), (torch.arange(4),))
    stored = liveness_of(program)
    copied = liveness_of(program, lambda weight: 10 * weight.numel())
    peaks = {str(op.node.target): op.peak_bytes for op in copied.operators}
    assert peaks["aten.embedding.default"] == 4 * 8 + 4 * 8 * 4
    assert peaks["aten.relu.default"] == 2 * 4 * 8 * 4
    # The turned one is a view of the copy, and the product's operands and result are all that is left.
    assert peaks["aten.transpose.int"] == 10 * 200 * 8 + 4 * 8 * 4
    assert peaks["aten.matmul.default"] == 10 * 200 * 8 + 4 * 8 * 4 + 4 * 200 * 4
    assert copied.crossing == stored.crossing


class TwoCaches(nn.Module):
    """Two layers, each of which reads a large input of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))

    def forward(self, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        for layer, cache in zip(self.layers, (first, second), strict=True):
            x = layer(x) + cache.sum(dim=0)
        return x


def test_an_input_counts_from_where_it_is_first_read() -> None:
    cache = torch.randn(1000, 8)
    live = liveness_of(capture(TwoCaches(), (torch.randn(1, 8), cache, cache + 1)))
    peaks = [op.peak_bytes for op in live.operators]
    sums = [i for i, op in enumerate(live.operators) if "sum" in str(op.node.target)]
    assert all(cache.nbytes < peaks[i] < cache.nbytes + 200 for i in sums)
    assert all(peak < 200 for i, peak in enumerate(peaks) if i not in sums)
    assert all(live.crossing_bytes(cut) < 200 for cut in range(len(live.operators)))


def test_of_two_valleys_the_deeper_one_is_cut() -> None:
    """Both cuts fit, and both give two programs: what decides is the bytes that cross."""
    elements = (6, 2, 6, 1, 6)
    ops = [Op(reads=(i,), weights=(f"w{i}",), elements=each, token=i) for i, each in enumerate(elements)]
    check([ops], 96)
    deeper, shallower = parted([ops], 96), parted([ops], 80)
    assert isinstance(deeper, Partition) and isinstance(shallower, Partition)
    assert [cut.positions for cut in deeper.cuts] == [(0,), (4,), (5,)]
    assert [cut.positions for cut in shallower.cuts] == [(0,), (2,), (5,)]  # the deeper one does not fit
