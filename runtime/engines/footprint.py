"""What memory a block takes on an engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Footprint:
    """Resident bytes of one variant of one block on one engine: anonymous memory and mapped files alike.

    `open_bytes` are held from the start of its load until it is closed, `load_bytes` on top of them while it is
    loaded, and `run_bytes` on top of them while it runs.
    """

    open_bytes: int
    load_bytes: int
    run_bytes: int
