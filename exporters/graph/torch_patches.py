"""What is changed in PyTorch itself, and why; imported by what retraces programs, before anything does."""

from __future__ import annotations

from typing import Any

from torch.fx.traceback import NodeSource


def _without_provenance(source: Any, node: Any, pass_name: str = "", action: Any = None) -> None:
    """Stand in for `NodeSource.__init__`, without the chain of nodes that a node comes from.

    PyTorch copies that chain, deeply, for each node of each pass, and ExecuTorch has over a hundred passes: it was a
    third of the time of a conversion. Nothing that is emitted contains it.
    """
    source.pass_name, source.action, source.from_node = pass_name, [], []
    source.node_info = None
    source._dict = source._action_string = None


setattr(NodeSource, "__init__", _without_provenance)  # noqa: B010 - a method may not be assigned
