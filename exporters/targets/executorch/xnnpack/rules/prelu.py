"""PReLU in two halves: the delegate frees its slope while it still reads it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import fx

from tm_export.exporters.graph.nodes import arguments
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule
from tm_export.exporters.targets.shared.functions import prelu

aten = torch.ops.aten


class PReluByClamps(Rule[None]):
    """Replaces PReLU by what it is defined as.

    Before::

        y = prelu(x [B, C, ...], slope [C] or [1])

    After::

        y = clamp(x, min=0) + slope · clamp(x, max=0)

    `exporters/targets/executorch/packed_constants.py` has the reason.
    """

    name: ClassVar[str] = "xnnpack::prelu_by_clamps"
    pattern = frozenset({aten.prelu.default, aten._prelu_kernel.default})

    def check(self, node: fx.Node) -> No | None:
        """Always."""
        return None

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """The slope along the channels, dimension 1."""
        return prelu(*values(tuple(arguments(node))))
