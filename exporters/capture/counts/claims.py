"""Claims in a captured graph: what was taken for known while it was captured, for `trials` to hold true.

A claim is an assertion, `_assert_async.msg(condition, text)`, whose text begins with a mark and says which line of
the user's made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, fx

_MARK: Final = "tm-export claims: "
_ASSERT: Final = torch.ops.aten._assert_async.msg


@dataclass(frozen=True)
class Claim:
    """A condition that must hold for every input, and who needs it: the user's line, and what it does there."""

    condition: fx.Node
    where: str
    what: str


def claim(condition: Tensor, where: str, what: str) -> None:
    """Note in the graph that is being captured that `condition`, a 0-d boolean, holds for every input."""
    _ASSERT(condition, f"{_MARK}{what}|{where}")


def claims_of(graph: fx.Graph) -> list[Claim]:
    """All claims of a captured graph, in the order in which they were made."""
    claims = []
    for node in graph.nodes:
        if node.target is not _ASSERT:
            continue
        condition, text = node.args
        if str(text).startswith(_MARK):
            what, where = str(text).removeprefix(_MARK).split("|", 1)
            claims.append(Claim(condition, where, what))
    return claims
