"""What the loader did and when: the raw material of traces and reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EventKind = Literal["load", "run", "close"]


@dataclass(frozen=True)
class Event:
    """One thing that happened to one variant of one block.

    Times are `time.perf_counter_ns`. `thread` is the name of the thread that did it. `bytes` is the memory that the
    block was reckoned to hold: taken by a load, held (its intermediate tensors included) by a run, given back by a
    close.
    """

    kind: EventKind
    component: str
    block: str
    variant: str
    start_ns: int
    end_ns: int
    thread: str
    bytes: int
