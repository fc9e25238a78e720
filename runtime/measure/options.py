"""How a bundle is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BenchOptions:
    """How to measure.

    Attributes:
        runs: runs that are measured, one at least.
        warmup: runs before them that are not.
        loads: warm loads of all blocks, and as many cold ones.
        engine: its name; None takes the device's own.
        threads: of the engine; None leaves it to the engine.
        memory_budget: bytes that the measuring process may hold while it runs; None keeps all blocks open.
        prefetch_depth: how many calls ahead blocks are loaded, where there is room.
    """

    runs: int = 20
    warmup: int = 3
    loads: int = 5
    engine: str | None = None
    threads: int | None = None
    memory_budget: int | None = None
    prefetch_depth: int = 1
