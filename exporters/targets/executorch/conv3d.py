"""3-D convolutions as 2-D ones over the frames, one for each frame of the kernel.

ExecuTorch's kernel takes one or two spatial dimensions, and fails at run time (error 0x12) for three.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from tm_export.exporters.graph.written_out import WrittenOut

aten = torch.ops.aten


def _convolved(
    x_BCTHW: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """Σ_a conv2d(frames a·dilation, a·dilation + stride, … of x [B·T', C, H, W], weight[:, :, a])."""
    stride, padding, dilation = (each * 3 if len(each) == 1 else each for each in (stride, padding, dilation))
    if padding[0]:
        x_BCTHW = F.pad(x_BCTHW, (0, 0, 0, 0, padding[0], padding[0]))
    B, C, T, H, W = x_BCTHW.shape
    kernel = weight.shape[2]
    made = (T - dilation[0] * (kernel - 1) - 1) // stride[0] + 1
    frames_BTCHW = x_BCTHW.transpose(1, 2)
    parts = []
    for a in range(kernel):
        first = a * dilation[0]
        frames = frames_BTCHW[:, first : first + (made - 1) * stride[0] + 1 : stride[0]].reshape(B * made, C, H, W)
        once = bias if a == 0 else None
        parts.append(F.conv2d(frames, weight[:, :, a], once, stride[1:], padding[1:], dilation[1:], groups))
    y = _sum(parts)
    return y.reshape(B, made, *y.shape[1:]).transpose(1, 2)


def _sum(parts: Sequence[Tensor]) -> Tensor:
    return sum(parts[1:], start=parts[0])


def _transposed(
    x_BCTHW: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    output_padding: list[int],
    groups: int,
    dilation: list[int],
) -> Tensor:
    """Each frame of x goes, through frame a of the kernel, to frame t·stride + a·dilation − padding."""
    stride, padding, output_padding, dilation = (
        each * 3 if len(each) == 1 else each for each in (stride, padding, output_padding, dilation)
    )
    B, C, T, H, W = x_BCTHW.shape
    kernel = weight.shape[2]
    frames = x_BCTHW.transpose(1, 2).reshape(B * T, C, H, W)
    parts = []
    for a in range(kernel):
        part = F.conv_transpose2d(
            frames, weight[:, :, a], None, stride[1:], padding[1:], output_padding[1:], groups, dilation[1:]
        )
        parts.append(part.reshape(B, T, *part.shape[1:]))
    made = (T - 1) * stride[0] - 2 * padding[0] + dilation[0] * (kernel - 1) + output_padding[0] + 1
    arriving: list[list[Tensor]] = [[] for _ in range(made)]
    for t in range(T):
        for a in range(kernel):
            goes_to = t * stride[0] + a * dilation[0] - padding[0]
            if 0 <= goes_to < made:
                arriving[goes_to].append(parts[a][:, t])
    nothing = torch.zeros(parts[0][:, 0].shape, dtype=x_BCTHW.dtype)
    y = torch.stack([_sum(each or [nothing]) for each in arriving], 2)
    return y if bias is None else y + bias.reshape(-1, 1, 1, 1)


CONVOLUTIONS: Final = WrittenOut(
    "executorch::conv3d_by_frames",
    {aten.conv3d.default: _convolved, aten.conv_transpose3d.input: _transposed},
)
"""Over frames."""
