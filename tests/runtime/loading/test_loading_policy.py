"""The loading plan: its invariants against a simulator, its loads against the optimum found by trying all plans."""

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tm_export.runtime.engines.footprint import Footprint
from tm_export.runtime.loading.policy import BlockKey, BudgetTooSmall, Plan, Use, least_budget, plan_loading


def key(number: int) -> BlockKey:
    return BlockKey("net", f"{number:02d}", "full")


def equal_uses(order: Sequence[int], open_bytes: int = 10, run_bytes: int = 3) -> tuple[Use, ...]:
    return tuple(Use(key(number), Footprint(open_bytes, 0, run_bytes)) for number in order)


@st.composite
def any_uses(draw: st.DrawFn) -> tuple[Use, ...]:
    """Cycles, switches and arbitrary orders of blocks with all kinds of footprints."""
    blocks = draw(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=6))
    order = draw(st.lists(st.integers(0, len(blocks) - 1), min_size=1, max_size=12)) * draw(st.integers(1, 3))
    runs = draw(st.lists(st.integers(0, 20), min_size=len(order), max_size=len(order)))
    return tuple(Use(key(number), Footprint(*blocks[number], run)) for number, run in zip(order, runs, strict=True))


def simulate(uses: Sequence[Use], plan: Plan, depth: int) -> int:
    """Follows a plan as the loader does, as slowly and as fast as loads can be; returns the most bytes at one time.

    A prefetched load is pending until its block is called: it may end at any time in between.
    """
    footprints = {use.block: use.footprint for use in uses}
    held: set[BlockKey] = set()
    pending: list[BlockKey] = []
    most = 0

    def load(block: BlockKey) -> None:
        assert block not in held, "opened twice"
        held.add(block)
        pending.append(block)

    def resident(running: int) -> int:
        loading = max((footprints[block].load_bytes for block in pending), default=0)
        return sum(footprints[block].open_bytes for block in held) + loading + running

    assert len(plan.steps) == len(uses)
    for use, step in zip(uses, plan.steps, strict=True):
        assert step.block == use.block
        for block in step.opens:
            assert block == use.block, "waits for a block that is not called"
            load(block)
        most = max(most, resident(0))
        assert use.block in held, "called before it is opened"
        if use.block in pending:  # one thread loads in order: those before it are open too
            del pending[: pending.index(use.block) + 1]
        for block in step.prefetches:
            load(block)
        assert len(pending) <= depth, "prefetched too far ahead"
        most = max(most, resident(use.footprint.run_bytes))
        for block in step.closes:
            assert block not in pending, "loaded in vain"
            held.remove(block)
    assert not held, "left open"
    return most


@given(any_uses(), st.integers(0, 4), st.integers(0, 120))
@settings(max_examples=400)
def test_a_plan_keeps_its_promises(uses: tuple[Use, ...], depth: int, spare: int) -> None:
    budget = least_budget(uses) + spare
    assert simulate(uses, plan_loading(uses, budget, depth), depth) <= budget


@given(any_uses(), st.integers(0, 4))
def test_without_a_bound_every_block_is_loaded_once(uses: tuple[Use, ...], depth: int) -> None:
    plan = plan_loading(uses, None, depth)
    simulate(uses, plan, depth)
    assert sorted(plan.loads()) == sorted({use.block for use in uses})
    everything = sum({use.block: use.footprint.open_bytes for use in uses}.values())
    extra = max(use.footprint.run_bytes for use in uses) + max(use.footprint.load_bytes for use in uses)
    assert plan_loading(uses, everything + extra, depth) == plan


@given(any_uses(), st.integers(0, 3), st.integers(1, 50))
def test_a_budget_below_the_least_is_refused_and_the_least_works(uses: tuple[Use, ...], depth: int, less: int) -> None:
    least = least_budget(uses)
    assert simulate(uses, plan_loading(uses, least, depth), depth) <= least
    with pytest.raises(BudgetTooSmall) as caught:
        plan_loading(uses, least - less, depth)
    assert caught.value.least_bytes == least


def test_the_refusal_names_block_bytes_and_least_budget() -> None:
    uses = (Use(key(0), Footprint(5, 1, 1)), Use(key(1), Footprint(100, 20, 50)))
    with pytest.raises(BudgetTooSmall, match=r"budget of 149 bytes .*net/01 \(variant full\).* 100 .* 150 bytes"):
        plan_loading(uses, 149, 1)


def fewest_loads(order: Sequence[int], slots: int, depth: int) -> int:
    """The fewest loads of equal blocks, over all ways to fill `slots`, by trying all sets of blocks at each step.

    The window of a step holds the blocks of the present use and of as many coming ones as plan_loading prefetches.
    """
    blocks = sorted(set(order))
    ends = []
    for index in range(len(order)):
        end = index
        while end + 1 < len(order) and end < index + depth and len(set(order[index : end + 2])) <= slots:
            end += 1
        ends.append(end)
    costs = {frozenset[int](): 0}
    for index, end in enumerate(ends):
        window = frozenset(order[index : end + 1])
        sets = [
            frozenset(chosen)
            for count in range(1, slots + 1)
            for chosen in itertools.combinations(blocks, count)
            if window <= set(chosen)
        ]
        costs = {after: min(cost + len(after - before) for before, cost in costs.items()) for after in sets}
    return min(costs.values())


@given(
    st.one_of(
        st.lists(st.integers(0, 4), min_size=1, max_size=12),
        st.tuples(st.integers(1, 5), st.integers(1, 4)).map(lambda t: list(range(t[0])) * t[1]),
    ),
    st.integers(1, 5),
    st.integers(0, 3),
)
@settings(max_examples=150)
def test_loads_of_equal_blocks_are_the_fewest_possible(order: list[int], slots: int, depth: int) -> None:
    plan = plan_loading(equal_uses(order), slots * 10 + 3, depth)
    assert len(plan.loads()) == fewest_loads(order, slots, depth)


def test_on_a_cycle_most_blocks_stay_and_least_recently_used_would_keep_none() -> None:
    blocks, steps, slots = 28, 30, 16
    uses = equal_uses(list(range(blocks)) * steps)
    plan = plan_loading(uses, slots * 10 + 3, 1)
    # One slot is the running block's and one the next one's; of the others, each saves a load at every further step.
    per_step = (len(plan.loads()) - blocks) / (steps - 1)
    assert math.isclose(per_step, (blocks - (slots - 1)) * blocks / (blocks - 1), rel_tol=0.1)
    assert per_step < 0.5 * blocks < blocks  # least recently used: all of them


def test_a_switch_closes_one_variant_and_opens_the_other() -> None:
    def uses_of(variant: str) -> list[Use]:
        return [Use(BlockKey("net", f"{n}", variant), Footprint(10, 0, 3)) for n in range(4)]

    uses = (*uses_of("merged"), *uses_of("merged"), *uses_of("full"), *uses_of("full"))
    plan = plan_loading(uses, 63, 1)
    assert simulate(uses, plan, 1) <= 63
    assert len(plan.loads()) == 8  # each variant's blocks once: all four fit, and two more while variants change
    assert plan.steps[7].prefetches == (BlockKey("net", "0", "full"),)  # prefetching crosses the switch


def test_a_negative_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="-1 is negative"):
        plan_loading(equal_uses([0]), None, -1)
