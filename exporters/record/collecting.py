"""How often Python looks for garbage in a process that does nothing but export."""

from __future__ import annotations

import gc
from typing import Final

BETWEEN: Final = 50_000
"""Objects that are made between two collections. Python's own 700 is a fifth of the time of an export: a graph is
hundreds of thousands of objects, and nearly all that are looked at are in use."""


def collect_seldom() -> None:
    """Collect less often from now on."""
    gc.set_threshold(BETWEEN, 10, 10)
