"""Partition: cut a component into blocks that fit a budget, where few tensors are alive.

All variants of a component are cut together, so that each block holds the same weights in every one of them. A
place to cut is therefore a number of weights: a cut after `k` weights lies, in each variant, between the first use of
its k-th weight and that of the next, where the fewest bytes cross; it exists if the first `k` weights are the same in
all variants.

Objective, in this order: the fewest changes of program from one block to the next (equal blocks are converted once),
then the fewest bytes over all cuts, both over all partitions whose every block fits the budget. It is found exactly,
by dynamic programming over the last block, among the cuts where the bytes that cross are a local minimum; if that
allows no partition, among all cuts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Final

from tm_export.exporters.errors import BudgetExceeded
from tm_export.exporters.graph.liveness import Liveness, Operator
from tm_export.exporters.graph.user_line import source_line

_PRIME: Final = (1 << 61) - 1
_BASE: Final = 1_000_003


@dataclass(frozen=True)
class Cut:
    """A place to cut: in front of which operator of each variant, and how many bytes cross in all of them."""

    positions: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class Need:
    """What a block takes: its weights, and at most that many bytes of activations in any variant."""

    weight_bytes: int
    activation_bytes: int

    @property
    def bytes(self) -> int:
        """Both together: what the budget bounds."""
        return self.weight_bytes + self.activation_bytes


@dataclass(frozen=True)
class Partition:
    """Where each variant is cut (both ends among them), and what each block needs."""

    cuts: tuple[Cut, ...]
    needs: tuple[Need, ...]


def partition(variants: Sequence[Liveness], weight_bytes: Mapping[str, int], budget: int | None) -> Partition:
    """Cut the variants of a component into blocks of at most `budget` bytes each; None gives one block.

    Raises `BudgetExceeded` if no cut makes every block fit, naming the operator that needs the most.
    """
    ends = (Cut((0,) * len(variants), 0), Cut(tuple(len(each.operators) for each in variants), 0))
    meter = _Meter(variants, weight_bytes)
    whole = meter.need(*ends)
    if budget is None or whole.bytes <= budget:
        return Partition(ends, (whole,))
    cuts = [ends[0], *_cuts(variants), ends[1]]
    best = _best(_local_minima(cuts), variants, meter, budget) or _best(cuts, variants, meter, budget)
    if best is None:
        raise _refusal(cuts, variants, meter, budget)
    return Partition(best, tuple(meter.need(a, b) for a, b in pairwise(best)))


def _cuts(variants: Sequence[Liveness]) -> list[Cut]:
    """Every place to cut, in order, without the ends."""
    common = set.intersection(*({key for op in each.operators for key in op.weights} for each in variants))
    orders = [_first_uses(each, common) for each in variants]
    cuts = []
    known: list[set[str]] = [set() for _ in variants]
    for k in range(1, len(common)):
        for keys, order in zip(known, orders, strict=True):
            keys.add(order[k - 1][0])
        if any(keys != known[0] for keys in known):
            continue
        positions = []
        for each, order in zip(variants, orders, strict=True):
            allowed = [cut for cut in range(order[k - 1][1] + 1, order[k][1] + 1) if each.may_cut(cut)]
            if allowed:
                positions.append(min(allowed, key=each.crossing_bytes))
        if len(positions) == len(variants):
            total = sum(each.crossing_bytes(cut) for each, cut in zip(variants, positions, strict=True))
            cuts.append(Cut(tuple(positions), total))
    return cuts


def _first_uses(variant: Liveness, common: set[str]) -> list[tuple[str, int]]:
    """The weights in the order in which they are first read, and by which operator."""
    first: dict[str, int] = {}
    for i, operator in enumerate(variant.operators):
        for key in operator.weights:
            if key in common:
                first.setdefault(key, i)
    return list(first.items())


def _local_minima(cuts: Sequence[Cut]) -> list[Cut]:
    """The cuts that no neighbour undercuts; the ends stay."""
    inner = [
        cut
        for before, cut, after in zip(cuts, cuts[1:], cuts[2:], strict=False)
        if (before is cuts[0] or cut.bytes <= before.bytes) and (after is cuts[-1] or cut.bytes <= after.bytes)
    ]
    return [cuts[0], *inner, cuts[-1]]


class _Meter:
    """Measures segments between cuts."""

    def __init__(self, variants: Sequence[Liveness], weight_bytes: Mapping[str, int]) -> None:
        self._variants = variants
        self._weight_bytes = weight_bytes
        self._sums = [_prefix_hashes(each.operators) for each in variants]

    def need(self, start: Cut, end: Cut) -> Need:
        """What the block between two cuts needs."""
        keys: set[str] = set()
        constants = activations = 0
        for each, a, b in zip(self._variants, start.positions, end.positions, strict=True):
            operators = each.operators[a:b]
            keys.update(key for operator in operators for key in operator.weights)
            constants += sum(operator.constant_bytes for operator in operators)
            activations = max(activations, max((operator.peak_bytes for operator in operators), default=0))
        return Need(sum(self._weight_bytes[key] for key in keys) + constants, activations)

    def bytes(self, start: Cut, end: Cut) -> int:
        """All that the block between two cuts needs."""
        return self.need(start, end).bytes

    def alone(self, operator: Operator) -> int:
        """All that one operator needs."""
        return sum(self._weight_bytes[key] for key in operator.weights) + operator.constant_bytes + operator.peak_bytes

    def fingerprint(self, start: Cut, end: Cut) -> tuple[int, ...]:
        """Equal for segments of the same operators on the same shapes."""
        return tuple(
            (sums[b] - sums[a] * pow(_BASE, b - a, _PRIME)) % _PRIME
            for sums, a, b in zip(self._sums, start.positions, end.positions, strict=True)
        )


def _prefix_hashes(operators: Sequence[Operator]) -> list[int]:
    sums = [0]
    for operator in operators:
        sums.append((sums[-1] * _BASE + operator.token) % _PRIME)
    return sums


def _best(cuts: Sequence[Cut], variants: Sequence[Liveness], meter: _Meter, budget: int) -> tuple[Cut, ...] | None:
    """The best partition that uses only these cuts, or None if none fits."""
    count = len(cuts)
    # A block that grows needs no less: the furthest end of each start bounds all that fit.
    furthest = []
    for i in range(count - 1):
        fits = bisect_right(cuts[i + 1 :], budget, key=partial(meter.bytes, cuts[i]))
        furthest.append(i + fits)

    @cache
    def fingerprint(i: int, j: int) -> tuple[int, ...]:
        return meter.fingerprint(cuts[i], cuts[j])

    # For the last block [i, j): the cost of all up to j, and where the block before it starts.
    costs: dict[tuple[int, int], tuple[int, int]] = {}
    before: dict[tuple[int, int], int] = {}
    starts_of_blocks_to: list[list[int]] = [[] for _ in range(count)]
    for i in range(count - 1):
        if i and not starts_of_blocks_to[i]:
            continue
        for j in range(i + 1, furthest[i] + 1):
            if i == 0:
                costs[0, j] = (0, 0)
            else:
                cost, h = min(
                    ((costs[h, i][0] + (fingerprint(h, i) != fingerprint(i, j)), costs[h, i][1] + cuts[i].bytes), h)
                    for h in starts_of_blocks_to[i]
                )
                costs[i, j], before[i, j] = cost, h
            starts_of_blocks_to[j].append(i)
    last = count - 1
    if not starts_of_blocks_to[last]:
        return None
    i, j = min((costs[i, last], i) for i in starts_of_blocks_to[last])[1], last
    chosen = [j]
    while True:
        chosen.append(i)
        if i == 0:
            return tuple(cuts[k] for k in reversed(chosen))
        i, j = before[i, j], i


def _refusal(cuts: Sequence[Cut], variants: Sequence[Liveness], meter: _Meter, budget: int) -> BudgetExceeded:
    """The error for the piece that no cut makes small enough."""
    needs = [(meter.need(a, b), a, b) for a, b in pairwise(cuts)]
    need, start, end = max(needs, key=lambda each: each[0].bytes)
    operators = [
        operator
        for each, a, b in zip(variants, start.positions, end.positions, strict=True)
        for operator in each.operators[a:b]
    ]
    worst = max(operators, key=meter.alone)
    where = source_line(worst.node) or worst.node.name
    return BudgetExceeded(
        f"{worst.node.target} at {where} needs {need.bytes:,} bytes ({need.weight_bytes:,} of weights and "
        f"{need.activation_bytes:,} of activations), and --block-budget is {budget:,}: give at least {need.bytes:,}"
    )
