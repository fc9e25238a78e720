"""What is changed in PyTorch itself, and why; imported by what retraces programs, before anything does."""

from __future__ import annotations

from typing import Any

from torch.fx.traceback import NodeSource


def _itself(source: NodeSource, _memo: dict[int, Any]) -> NodeSource:
    """Whoever copies where a node comes from may have the same: nobody changes it."""
    return source


# Each pass notes of each node which node it was made of, with a deep copy of what was noted so far. After the hundred
# passes of ExecuTorch that is a seventh of the time of a conversion.
NodeSource.__deepcopy__ = _itself  # type: ignore[attr-defined]
