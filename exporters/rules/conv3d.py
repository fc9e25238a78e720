"""A 3-D convolution as 2-D ones over the frames, one for each frame of its kernel."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import fx

from tm_export.exporters.retrace import Values, arguments, value_of
from tm_export.exporters.rules.base import No, Rule

aten = torch.ops.aten


class Conv3dByFrames(Rule[None]):
    """Replaces a conv3d that moves by one frame and is not padded in time: video models' patches, causal VAEs.

    Before::

        y = conv3d(x [B, C, T, H, W], weight [D, C, k, p, q], bias)

    After, T' = T − k + 1::

        y = Σ_a conv2d(frames a .. a+T' of x [B·T', C, H, W], weight[:, :, a] [D, C, p, q]), the bias with the first

    ExecuTorch's kernel takes one or two spatial dimensions, and fails at run time (error 0x12) for three.
    """

    name: ClassVar[str] = "executorch::conv3d_by_frames"
    pattern = frozenset({aten.conv3d.default})

    def check(self, node: fx.Node) -> No | None:
        """Moved by one frame, not padded in time."""
        stride, padding, dilation, groups = _settings(node)
        if stride[0] != 1 or padding[0] != 0:
            return No("jumps over frames, or is padded in time")
        return None if groups == 1 and set(dilation) == {1} else No("grouped or dilated")

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """Each frame of the kernel by itself."""
        x_BCTHW, weight, bias = (*values(arguments(node)[:3]), None)[:3]
        stride, padding, _, _ = _settings(node)
        B, C, T, H, W = x_BCTHW.shape
        kernel = value_of(arguments(node)[1]).shape[2]
        made = T - kernel + 1
        frames_BTCHW = x_BCTHW.transpose(1, 2)
        y = None
        for a in range(kernel):
            frames = frames_BTCHW[:, a : a + made].reshape(B * made, C, H, W)
            part = F.conv2d(frames, weight[:, :, a], bias if a == 0 else None, stride[1:], padding[1:])
            y = part if y is None else y + part
        assert y is not None
        return y.reshape(B, made, *y.shape[1:]).transpose(1, 2)


def _settings(node: fx.Node) -> tuple[list[int], list[int], list[int], int]:
    defaults: list[Any] = [[1, 1, 1], [0, 0, 0], [1, 1, 1], 1]
    given = list(arguments(node)[3:])
    stride, padding, dilation, groups = given + defaults[len(given) :]
    return stride, padding, dilation, groups
