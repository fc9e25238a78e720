"""Matrix products, attention and convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tm_export.runtime.engines.coreml_reference.ops.table import Table

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(x, weight, bias)


def _matmul(x: Tensor, y: Tensor, transpose_x: Tensor, transpose_y: Tensor) -> Tensor:
    left = x.mT if transpose_x else x
    right = y.mT if transpose_y else y
    return torch.matmul(left, right)


def _einsum(values: Sequence[Tensor], equation: str) -> Tensor:
    return torch.einsum(equation, *values)


def _attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask)


def same_padding(sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], lower: bool) -> list[int]:
    """Before and after each spatial axis, so that the output has ceil(size / stride) positions.

    `kernel` counts dilation. What cannot be halved goes after, or before if `lower`.
    """
    pads = []
    for size, width, stride in zip(sizes, kernel, strides, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + width - size)
        less, more = total // 2, total - total // 2
        pads += [more, less] if lower else [less, more]
    return pads


def resolve_padding(
    pad_type: str, pad: Tensor, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> list[int]:
    """The padding before and after each spatial axis for a MIL `pad_type`."""
    match pad_type:
        case "valid":
            return [0] * (2 * len(sizes))
        case "custom":
            return [int(n) for n in pad.tolist()]
        case "same" | "same_lower":
            return same_padding(sizes, kernel, strides, lower=pad_type == "same_lower")
    raise ValueError(f"there is no pad_type {pad_type!r}")


def pad_spatial(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    """Pads (or, where negative, crops) the spatial axes: pads are before and after each, first axis first."""
    pairs = [(pads[i], pads[i + 1]) for i in range(0, len(pads), 2)]
    return F.pad(x, [n for pair in reversed(pairs) for n in pair], value=value) if any(pads) else x


def _conv(
    x: Tensor,
    weight: Tensor,
    strides: Tensor,
    pad_type: str,
    pad: Tensor,
    dilations: Tensor,
    groups: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    step, spread = strides.tolist(), dilations.tolist()
    kernel = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], spread, strict=True)]
    padded = pad_spatial(x, resolve_padding(pad_type, pad, x.shape[2:], kernel, step))
    return _CONV[x.ndim - 2](padded, weight, bias, stride=step, dilation=spread, groups=int(groups))


def _conv_transpose(
    x: Tensor,
    weight: Tensor,
    pad: Tensor,
    pad_type: str,
    strides: Tensor,
    dilations: Tensor,
    groups: Tensor,
    bias: Tensor | None = None,
    output_shape: Tensor | None = None,
) -> Tensor:
    step, spread = strides.tolist(), dilations.tolist()
    full = _CONV_TRANSPOSE[x.ndim - 2](x, weight, stride=step, dilation=spread, groups=int(groups))
    wide = list(full.shape[2:])
    if pad_type == "same":
        sizes = [n * s for n, s in zip(x.shape[2:], step, strict=True)]
        before = [(w - n) // 2 for w, n in zip(wide, sizes, strict=True)]
    else:
        pads = pad.tolist() if pad_type == "custom" else [0] * (2 * len(wide))
        before = pads[::2]
        sizes = [w - b - a for w, b, a in zip(wide, before, pads[1::2], strict=True)]
    if output_shape is not None:
        sizes = output_shape.tolist()[2:]
    crops = [n for w, b, s in zip(wide, before, sizes, strict=True) for n in (-b, s + b - w)]
    result = pad_spatial(full, crops)
    return result if bias is None else result + bias.reshape(-1, *[1] * len(wide))


TABLE: Table = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "einsum": _einsum,
    "linear": _linear,
    "matmul": _matmul,
    "scaled_dot_product_attention": _attention,
}
