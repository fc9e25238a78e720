"""A linear layer whose output is cut into parts becomes one layer a part: cutting leaves the delegate or copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from tm_export.exporters.graph.nodes import arguments, keywords, value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule

aten = torch.ops.aten

_VIEWS = (aten.reshape.default, aten.view.default, aten._unsafe_view.default)


@dataclass(frozen=True)
class Parts:
    """The linear layer, and from which to which output channel each part reaches."""

    linear: fx.Node
    bounds: tuple[tuple[int, int], ...]

    def compute(self, values: Values) -> list[Tensor]:
        """The parts, each a linear layer over rows of the weight."""
        x, weight, bias = (*values(tuple(arguments(self.linear))), None)[:3]
        return [F.linear(x, weight[start:end], None if bias is None else bias[start:end]) for start, end in self.bounds]


class SplitLinear(Rule[Parts]):
    """Replaces split, or chunk, of a linear layer's output.

    Before::

        q, k, v = split(linear(x, weight [3C, C]), C, -1)

    After::

        q = linear(x, weight[:C]);  k = linear(x, weight[C:2C]);  v = linear(x, weight[2C:])
    """

    name: ClassVar[str] = "xnnpack::split_linear"
    pattern = frozenset({aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default})

    def check(self, node: fx.Node) -> Parts | No:
        """The split must be over the channels of a linear layer that nobody else reads."""
        linear = arguments(node)[0]
        dim = arguments(node)[2] if len(arguments(node)) > 2 else keywords(node).get("dim", 0)
        if not isinstance(linear, fx.Node) or linear.target is not aten.linear.default or len(linear.users) > 1:
            return No("the input is no linear layer of its own")
        if dim % value_of(linear).dim() != value_of(linear).dim() - 1:
            return No("not over the channels")
        bounds, start = [], 0
        for part in node.meta["val"]:
            bounds.append((start, start + part.shape[-1]))
            start += part.shape[-1]
        return Parts(linear, tuple(bounds))

    def rewrite(self, node: fx.Node, match: Parts, values: Values) -> Any:
        """A linear layer for each part."""
        return match.compute(values)


class UnbindLinear(Rule[Parts]):
    """Replaces the other common way to write the same.

    Before::

        q, k, v = unbind(permute(reshape(linear(x), [B, N, 3, H, D]), [2, 0, 3, 1, 4]), 0)

    After::

        q = permute(reshape(linear(x, weight[:C]), [B, N, H, D]), [0, 2, 1, 3]); …
    """

    name: ClassVar[str] = "xnnpack::unbind_linear"
    pattern = frozenset({aten.unbind.int})

    def check(self, node: fx.Node) -> Parts | No:
        """Go back over permute and reshape to the linear layer."""
        permute = arguments(node)[0]
        dim = arguments(node)[1] if len(arguments(node)) > 1 else 0
        if not isinstance(permute, fx.Node) or permute.target is not aten.permute.default or dim != 0:
            return No("not the unbinding of a permutation's first dimension")
        view = arguments(permute)[0]
        assert isinstance(view, fx.Node)
        linear = arguments(view)[0] if view.target in _VIEWS else None
        if not isinstance(linear, fx.Node) or linear.target is not aten.linear.default:
            return No("no linear layer behind the permutation")
        at = int(arguments(permute)[1][0]) % value_of(permute).dim()
        shape = value_of(view).shape
        if tuple(shape[:at]) != tuple(value_of(linear).shape[:-1]):
            return No("the parts are not the outermost of the channels")
        if len(view.users) > 1 or len(linear.users) > 1 or len(permute.users) > 1:
            return No("others read the layer too")
        size = value_of(linear).shape[-1] // shape[at]
        return Parts(linear, tuple((i * size, (i + 1) * size) for i in range(shape[at])))

    def rewrite(self, node: fx.Node, match: Parts, values: Values) -> Any:
        """A linear layer for each part, each with the view and permutation it had."""
        permute = arguments(node)[0]
        assert isinstance(permute, fx.Node)
        view = arguments(permute)[0]
        assert isinstance(view, fx.Node)
        at, *rest = (int(d) % value_of(permute).dim() for d in arguments(permute)[1])
        shape = [size for d, size in enumerate(value_of(view).shape) if d != at]
        order = [d - (d > at) for d in rest]
        return [part.reshape(shape).permute(order) for part in match.compute(values)]
