"""Write out the tanh approximation of GELU, which two converters take for the exact function."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import fx

from tm_export.exporters.graph.nodes import arguments
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule

aten = torch.ops.aten

_SCALE = math.sqrt(2 / math.pi)
_CUBIC = 0.044715


class _GeluTanh(Rule[None]):
    pattern = frozenset({aten.gelu.default})

    def check(self, node: fx.Node) -> No | None:
        """Only the approximation; the exact function every converter knows."""
        return None if node.kwargs.get("approximate") == "tanh" else No("exact GELU")


class GeluByTanh(_GeluTanh):
    """Replaces gelu(x, approximate="tanh") by its formula.

    coremltools 9.0 reads the approximation from a positional argument and so misses it: 4e-4 off. From the
    formula it recovers its own operator.
    """

    name: ClassVar[str] = "coreml::gelu_by_tanh"

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))); Hendrycks & Gimpel, arXiv 1606.08415, section 2."""
        x = values(arguments(node)[0])
        return 0.5 * x * (1 + torch.tanh(_SCALE * (x + _CUBIC * x.pow(3))))


class GeluBySigmoid(_GeluTanh):
    """Replaces gelu(x, approximate="tanh") by x·sigmoid(2u), the same function since ½(1 + tanh u) = sigmoid(2u).

    XNNPACK's delegate computes the exact function instead, 5e-4 off, and leaves tanh's formula in pieces.
    """

    name: ClassVar[str] = "xnnpack::gelu_by_sigmoid"

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """x·sigmoid(x·(a + b·x²)) with a = 2√(2/π) and b = 0.044715·a."""
        x = values(arguments(node)[0])
        return x * torch.sigmoid(x * (x * x * (2 * _SCALE * _CUBIC) + 2 * _SCALE))
