"""Plans which blocks are opened, prefetched and closed when a known sequence of blocks runs in a bounded memory.

The sequence of a whole schedule is known beforehand (a denoiser calls the same blocks at every step), so what is
closed to make room is the block whose next use lies farthest ahead: Belady, "A study of replacement algorithms for
a virtual-storage computer", 1966. On a cycle that does not fit, this keeps most blocks open and streams the others,
where closing the least recently used one would load every block at every step. If all blocks take the same bytes, no
plan with the same prefetching loads less; if sizes differ, a better one may exist (finding it is NP-hard).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tm_export.runtime.engines.footprint import Footprint
from tm_export.runtime.errors import BUDGET, UserError


class BudgetTooSmall(UserError):
    """A memory budget in which a block cannot run at all; `least_bytes` is the least budget that works."""

    exit_code = BUDGET

    def __init__(self, message: str, least_bytes: int) -> None:
        super().__init__(message)
        self.least_bytes = least_bytes

    def __reduce__(self) -> tuple[type[BudgetTooSmall], tuple[str, int]]:
        return BudgetTooSmall, (str(self), self.least_bytes)  # an exception crosses processes by its `args` otherwise


@dataclass(frozen=True, order=True)
class BlockKey:
    """What is opened and closed: one variant of one block."""

    component: str
    block: str
    variant: str

    def __str__(self) -> str:
        return f"block {self.component}/{self.block} (variant {self.variant})"


@dataclass(frozen=True)
class Use:
    """One run of a block, and what it takes. Only `run_bytes` may differ from one use of a block to another."""

    block: BlockKey
    footprint: Footprint


@dataclass(frozen=True)
class Step:
    """What happens around one run.

    In this order: `opens` (the block itself, unless it is open or on its way) is loaded; the run waits until its
    block is open; as it starts, loading of `prefetches` may start, in order, and may last beyond it; as it ends,
    `closes` are closed.
    """

    block: BlockKey
    opens: tuple[BlockKey, ...]
    prefetches: tuple[BlockKey, ...]
    closes: tuple[BlockKey, ...]


@dataclass(frozen=True)
class Plan:
    """One step for each use; at its end every block is closed."""

    steps: tuple[Step, ...]

    def loads(self) -> tuple[BlockKey, ...]:
        """Every load, in the order of loading."""
        return tuple(block for step in self.steps for block in (*step.opens, *step.prefetches))


def plan_loading(uses: Sequence[Use], memory_budget: int | None, prefetch_depth: int) -> Plan:
    """The plan for a sequence of uses.

    Args:
        uses: What will run, in order.
        memory_budget: Bytes that open blocks may take, with those that are being loaded and the one that runs;
            None for no bound.
        prefetch_depth: Blocks of up to this many coming uses are loaded while one runs (fewer where they do not
            fit); 0 loads each block when it is called.

    Raises:
        BudgetTooSmall: some block cannot run within the budget even alone.
    """
    if prefetch_depth < 0:
        raise ValueError(f"prefetch depth {prefetch_depth} is negative: give 0 for none, or the blocks to load ahead")
    budget = math.inf if memory_budget is None else memory_budget
    _require_room_for_each(uses, budget)
    footprints = {use.block: use.footprint for use in uses}
    next_uses = _next_uses(uses)
    ends = _window_ends(uses, budget, prefetch_depth)
    opened: dict[BlockKey, float] = {}  # and the index of its next use
    opens: list[tuple[BlockKey, ...]] = []
    prefetches: list[tuple[BlockKey, ...]] = []
    closes: list[list[BlockKey]] = [[] for _ in uses]
    for index, use in enumerate(uses):
        window = _distinct(coming.block for coming in uses[index : ends[index] + 1])
        missing = [block for block in window if block not in opened]
        for block in _to_close(use, window, opened, footprints, budget):
            del opened[block]
            closes[index - 1].append(block)
        for block in missing:
            opened[block] = next(at for at in range(index, len(uses)) if uses[at].block == block)
        opens.append(tuple(block for block in missing if block == use.block))
        prefetches.append(tuple(block for block in missing if block != use.block))
        opened[use.block] = next_uses[index]
        if next_uses[index] == math.inf:
            del opened[use.block]
            closes[index].append(use.block)
    assert not opened
    return Plan(
        tuple(Step(use.block, opens[index], prefetches[index], tuple(closes[index])) for index, use in enumerate(uses))
    )


def least_budget(uses: Sequence[Use]) -> int:
    """The least budget in which the sequence can run, with nothing prefetched where it is tight; 0 if it is empty."""
    return max((_alone(use) for use in uses), default=0)


def _alone(use: Use) -> int:
    return use.footprint.open_bytes + max(use.footprint.load_bytes, use.footprint.run_bytes)


def _require_room_for_each(uses: Sequence[Use], budget: float) -> None:
    least = least_budget(uses)
    if least <= budget:
        return
    worst = max(uses, key=_alone)
    raise BudgetTooSmall(
        f"a memory budget of {budget:.0f} bytes is too small for {worst.block}: it takes {worst.footprint.open_bytes} "
        f"bytes when open, {worst.footprint.load_bytes} more while it is loaded and {worst.footprint.run_bytes} more "
        f"while it runs; the least budget that works is {least} bytes (or export with a smaller --block-budget)",
        least,
    )


def _bytes_at(use: Use, held: Iterable[Footprint], coming: Iterable[Footprint]) -> int:
    """The most that is resident from when `use` is waited for until its run ends, if `held` are open or on their way.

    One thread loads, so that `load_bytes` count once: of any block of the window (`coming` and the present one) while
    the present one is waited for, of any but the present one while it runs. That a block of the window may have been
    open for long is not made use of.
    """
    loading = max((footprint.load_bytes for footprint in coming), default=0)
    waiting = max(loading, use.footprint.load_bytes)
    return sum(footprint.open_bytes for footprint in held) + max(waiting, use.footprint.run_bytes + loading)


def _window_ends(uses: Sequence[Use], budget: float, depth: int) -> list[int]:
    """For each use the index of the last one whose block is to be open, or on its way, while it runs.

    A block is only prefetched if it can then stay until it is called: the ends never go back.
    """
    ends = list(range(len(uses)))
    latest = len(uses) - 1
    for index in reversed(range(len(uses))):
        use = uses[index]
        window = {use.block: use.footprint}
        end = index
        for at in range(index + 1, min(index + depth, latest) + 1):
            window[uses[at].block] = uses[at].footprint
            coming = [footprint for block, footprint in window.items() if block != use.block]
            if _bytes_at(use, window.values(), coming) > budget:
                break
            end = at
        ends[index] = latest = end
    return ends


def _next_uses(uses: Sequence[Use]) -> list[float]:
    """For each use the index of the next use of the same block, or infinity."""
    seen: dict[BlockKey, int] = {}
    result = [math.inf] * len(uses)
    for index in reversed(range(len(uses))):
        result[index] = seen.get(uses[index].block, math.inf)
        seen[uses[index].block] = index
    return result


def _to_close(
    use: Use,
    window: Sequence[BlockKey],
    opened: dict[BlockKey, float],
    footprints: dict[BlockKey, Footprint],
    budget: float,
) -> list[BlockKey]:
    """What must be closed so that the window fits: the farthest next use first, and none in vain."""
    coming = [footprints[block] for block in window if block != use.block]
    held = {block: footprints[block] for block in (*opened, *window)}
    closed: list[BlockKey] = []
    farthest_first = sorted((block for block in opened if block not in window), key=lambda b: (-opened[b], b))
    for block in farthest_first:
        if _bytes_at(use, held.values(), coming) <= budget:
            break
        closed.append(block)
        del held[block]
    for block in reversed(closed[:-1]):  # a later one may have been so large that an earlier one fits again
        if _bytes_at(use, (*held.values(), footprints[block]), coming) <= budget:
            held[block] = footprints[block]
    return [block for block in closed if block not in held]


def _distinct(blocks: Iterable[BlockKey]) -> list[BlockKey]:
    return list(dict.fromkeys(blocks))
