"""What is left for blocks of the memory that a whole process may take, and a loader that keeps within it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tm_export.runtime.loading.events import Event
from tm_export.runtime.loading.loader import Loader
from tm_export.runtime.loading.machinery import Machinery
from tm_export.runtime.loading.memory import sample_memory
from tm_export.runtime.loading.policy import BudgetTooSmall


def budget_for_blocks(process_budget: int | None, host_bytes: int = 0) -> int | None:
    """The process's budget less what it holds already; call it when libraries and inputs are loaded.

    `host_bytes` of arrays that the host is going to hold beside the blocks count as held.

    Raises:
        BudgetTooSmall: the process holds as much already.
    """
    if process_budget is None:
        return None
    held = sample_memory().rss_bytes + host_bytes
    if held >= process_budget:
        raise BudgetTooSmall(
            f"a memory budget of {process_budget} bytes is too small: the process holds {held} bytes before it opens "
            "any block",
            held + 1,
        )
    return process_budget - held


@contextmanager
def loader_within_budget(
    machinery: Machinery, tell: Callable[[Event], None] = lambda event: None, *, host_bytes: int = 0
) -> Iterator[Loader]:
    """A loader whose blocks have what `budget_for_blocks` leaves them; `tell` is as `Loader`'s.

    Raises:
        BudgetTooSmall: as `budget_for_blocks`, or from within, told of the whole process's budget.
    """
    blocks_budget = budget_for_blocks(machinery.memory_budget, host_bytes)
    with Loader(
        machinery.bundle_dir,
        machinery.manifest,
        machinery.engine,
        memory_budget=blocks_budget,
        prefetch_depth=machinery.prefetch_depth,
        tell=tell,
    ) as loader:
        try:
            yield loader
        except BudgetTooSmall as error:
            assert machinery.memory_budget is not None and blocks_budget is not None  # else none is too small
            raise _for_the_process(error, machinery.memory_budget, blocks_budget) from None


def machine_bytes() -> int:
    """The physical memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _for_the_process(error: BudgetTooSmall, process_budget: int, blocks_budget: int) -> BudgetTooSmall:
    """The same error, told of the whole process's budget instead of what was left of it for blocks."""
    held = process_budget - blocks_budget
    least = error.least_bytes + held
    return BudgetTooSmall(
        f"{error}; the process itself holds {held} bytes: the least --memory-budget that works is {least}B", least
    )
