"""Pooling in the forms that Core ML has no operator for."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.written_out import WrittenOut

aten = torch.ops.aten


def _each(value: Any, dims: int) -> list[int]:
    given = [value] if isinstance(value, int) else list(value)
    return given * dims if len(given) == 1 else given


def _is_plain(node: fx.Node) -> str:
    given = bound_arguments(node)
    dilated = any(n != 1 for n in given["dilation"])
    return "" if dilated or not given["stride"] else "Core ML has an operator for it"


def _max_pooled(
    x: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, dims: int
) -> Tensor:
    """The largest of the windows' entries: of as many slices as a window has places."""
    kernel, spread, pad = (_each(value, dims) for value in (kernel_size, dilation, padding))
    step = _each(stride, dims) if stride else kernel
    pool = (aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default)[dims - 1]
    if all(n == 1 for n in spread):
        plain: Tensor = pool(x, kernel, step, pad, spread, ceil_mode)
        return plain
    made = pool(x, kernel, step, pad, spread, ceil_mode).shape[-dims:]
    reach = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(made, step, kernel, spread, strict=True)]
    beyond = [max(0, r - size - p) for r, size, p in zip(reach, x.shape[-dims:], pad, strict=True)]
    lowest = float("-inf")
    padded = F.pad(x, [n for p, b in reversed(list(zip(pad, beyond, strict=True))) for n in (p, b)], value=lowest)
    best: Tensor | None = None
    for places in itertools.product(*map(range, kernel)):
        part = padded
        for dim, (place, d, s, n) in enumerate(zip(places, spread, step, made, strict=True), start=x.dim() - dims):
            start = place * d
            part = aten.slice.Tensor(part, dim, start, start + (n - 1) * s + 1, s)
        best = part if best is None else torch.maximum(best, part)
    assert best is not None
    return best


def _pooled_in(dims: int) -> Callable[..., Tensor]:
    def pooled(x: Tensor, size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Tensor:
        return _max_pooled(x, size, stride, padding, dilation, ceil_mode, dims)

    return pooled


MAX_POOLS: Final = WrittenOut(
    "coreml::max_pools",
    {
        aten.max_pool1d.default: _pooled_in(1),
        aten.max_pool2d.default: _pooled_in(2),
        aten.max_pool3d.default: _pooled_in(3),
    },
    unless=_is_plain,
)
"""Windows with gaps, and strides that are left to be the windows' sizes."""


def _divided_by(
    x: Tensor, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, _: bool, divisor: int | None
) -> Tensor:
    """A sum over each window, divided by a number of the caller's."""
    dims = len(kernel_size)
    window = 1
    for size in kernel_size:
        window *= size
    pool = {2: aten.avg_pool2d.default, 3: aten.avg_pool3d.default}[dims]
    assert divisor is not None
    mean: Tensor = pool(x, kernel_size, stride or kernel_size, padding, ceil_mode, True)
    return mean * (window / divisor)


AVERAGES: Final = WrittenOut(
    "coreml::averages",
    {aten.avg_pool2d.default: _divided_by, aten.avg_pool3d.default: _divided_by},
    unless=lambda node: "" if bound_arguments(node)["divisor_override"] else "a mean",
)
"""Averages by another divisor than the window's size."""
