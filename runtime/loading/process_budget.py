"""What is left for blocks of the memory that a whole process may take."""

from __future__ import annotations

import os

from tm_export.runtime.loading.policy import BudgetTooSmall
from tm_export.runtime.measure.memory import sample_memory


def budget_for_blocks(process_budget: int | None) -> int | None:
    """The process's budget less what it holds already; call it when libraries and inputs are loaded.

    Raises:
        BudgetTooSmall: the process holds as much already.
    """
    if process_budget is None:
        return None
    held = sample_memory().rss_bytes
    if held >= process_budget:
        raise BudgetTooSmall(
            f"a memory budget of {process_budget} bytes is too small: the process holds {held} bytes before it opens "
            "any block",
            held + 1,
        )
    return process_budget - held


def for_the_process(error: BudgetTooSmall, process_budget: int, blocks_budget: int) -> BudgetTooSmall:
    """The same error, told of the whole process's budget instead of what was left of it for blocks."""
    held = process_budget - blocks_budget
    least = error.least_bytes + held
    return BudgetTooSmall(
        f"{error}; the process itself holds {held} bytes: the least --memory-budget that works is {least}B", least
    )


def machine_bytes() -> int:
    """The physical memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
