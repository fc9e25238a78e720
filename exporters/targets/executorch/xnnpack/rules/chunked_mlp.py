"""Two linear layers with a large weight between them, a part of the hidden channels at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch
import torch.nn.functional as F
from torch import fx

from tm_export.exporters.graph.nodes import arguments, keywords, operator_of, value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule

aten = torch.ops.aten

CHUNK_BYTES: Final = 5 << 19
"""2.5 MiB: what one chunk's weight may take, about a core's level-2 cache."""
FEWEST_CHANNELS: Final = 256
"""In a chunk; a bound against many small additions. Reckoned, not measured."""
FEWEST_ROWS: Final = 32
"""Few rows read the weight only a few times. Reckoned, not measured."""

_POINTWISE: Final = frozenset(
    {
        aten.gelu.default, aten.relu.default, aten.silu.default, aten.sigmoid.default, aten.tanh.default,
        aten.hardswish.default, aten.leaky_relu.default, aten.elu.default, aten.clamp.default,
        aten.mul.Tensor, aten.add.Tensor, aten.sub.Tensor, aten.div.Tensor, aten.neg.default,
    }
)  # fmt: skip


@dataclass(frozen=True)
class Mlp:
    """The layers that make the hidden channels (two, if gated), what happens to these, and how many chunks."""

    layers: tuple[fx.Node, ...]
    pointwise: tuple[fx.Node, ...]
    chunks: int


class ChunkedMlp(Rule[Mlp]):
    """Replaces an MLP whose first weight is larger than a cache.

    Before::

        y = linear(gelu(linear(x, weight1 [H, C])), weight2 [C, H])

    After, for parts h of the hidden channels::

        y = linear(gelu(linear(x, weight1[h])), weight2[:, h]) + …

    For each few rows of x, XNNPACK reads the whole weight anew. Where that does not stay in the cache, reading it is
    what takes the time. The additions are of the size of y, and few.
    """

    name: ClassVar[str] = "xnnpack::chunked_mlp"
    pattern = frozenset({aten.linear.default})

    def check(self, node: fx.Node) -> Mlp | No:
        """Go back over what works on each number by itself to linear layers."""
        found = _behind(node)
        if isinstance(found, No):
            return found
        layers, pointwise = found
        weight = value_of(arguments(layers[0])[1])
        channels = weight.shape[0]
        if math.prod(value_of(node).shape[:-1]) < FEWEST_ROWS:
            return No("few rows")
        chunks = min(math.ceil(weight.numel() * weight.element_size() / CHUNK_BYTES), channels // FEWEST_CHANNELS)
        return Mlp(layers, pointwise, chunks) if chunks > 1 else No("the weight stays in the cache")

    def rewrite(self, node: fx.Node, match: Mlp, values: Values) -> Any:
        """The sum of all parts."""
        channels = value_of(arguments(node)[1]).shape[1]
        weight, bias = (*values(tuple(arguments(node)[1:])), None)[:2]
        size = math.ceil(channels / match.chunks / 16) * 16
        total = None
        for start in range(0, channels, size):
            end = min(start + size, channels)
            hidden = _hidden(node, match, values, start, end)
            part = F.linear(hidden, weight[:, start:end], bias if total is None else None)
            total = part if total is None else total + part
        return total


def _behind(node: fx.Node) -> tuple[tuple[fx.Node, ...], tuple[fx.Node, ...]] | No:
    """The linear layers that an MLP's second layer gets its channels from, and what lies between, in order."""
    shape = value_of(arguments(node)[0]).shape
    layers: list[fx.Node] = []
    pointwise: list[fx.Node] = []
    waiting, readers = [arguments(node)[0]], {node}
    while waiting:
        source = waiting.pop()
        if source in layers or source in pointwise:
            continue
        if value_of(source).shape != shape:
            return No("something else comes in between the layers")
        if source.target is aten.linear.default:
            layers.append(source)
        elif source.target in _POINTWISE:
            pointwise.append(source)
            waiting.extend(source.all_input_nodes)
        else:
            return No("no two linear layers")
        readers.add(source)
    if not pointwise or any(user not in readers for source in (*layers, *pointwise) for user in source.users):
        return No("no two linear layers" if not pointwise else "others read the hidden channels")
    places = {known: place for place, known in enumerate(node.graph.nodes)}
    return tuple(layers), tuple(sorted(pointwise, key=places.__getitem__))


def _hidden(node: fx.Node, match: Mlp, values: Values, start: int, end: int) -> Any:
    """The hidden channels from `start` to `end`, as the second layer takes them."""
    env: dict[fx.Node, Any] = {}
    for layer in match.layers:
        x, weight, bias = (*values(tuple(arguments(layer))), None)[:3]
        env[layer] = F.linear(x, weight[start:end], None if bias is None else bias[start:end])
    for step in match.pointwise:
        args, kwargs = fx.node.map_arg((tuple(arguments(step)), keywords(step)), env.__getitem__)
        env[step] = operator_of(step)(*args, **kwargs)
    return env[arguments(node)[0]]
