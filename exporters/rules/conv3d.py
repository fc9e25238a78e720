"""A 3-D convolution that does not look along time, as a 2-D one over the frames."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import fx

from tm_export.exporters.retrace import Values, arguments, value_of
from tm_export.exporters.rules.base import No, Rule

aten = torch.ops.aten


class Conv3dByFrames(Rule[None]):
    """Replaces a conv3d whose kernel is one frame deep: how video models cut frames into patches.

    Before::

        y = conv3d(x [B, C, T, H, W], weight [D, C, 1, p, q], bias, [1, p, q])

    After::

        y = conv2d(frames of x [B·T, C, H, W], weight [D, C, p, q], bias, [p, q]), frame by frame

    ExecuTorch's kernel takes one or two spatial dimensions, and fails at run time (error 0x12) for three.
    """

    name: ClassVar[str] = "executorch::conv3d_by_frames"
    pattern = frozenset({aten.conv3d.default})

    def check(self, node: fx.Node) -> No | None:
        """One frame deep, moved by one frame, not padded in time."""
        stride, padding, dilation, groups = _settings(node)
        if value_of(arguments(node)[1]).shape[2] != 1 or stride[0] != 1 or padding[0] != 0:
            return No("looks along time")
        return None if groups == 1 and set(dilation) == {1} else No("grouped or dilated")

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """Every frame by itself."""
        x_BCTHW, weight, bias = (*values(arguments(node)[:3]), None)[:3]
        stride, padding, _, _ = _settings(node)
        B, C, T, H, W = x_BCTHW.shape
        frames = x_BCTHW.transpose(1, 2).reshape(B * T, C, H, W)
        y = F.conv2d(frames, weight.squeeze(2), bias, stride[1:], padding[1:])
        return y.reshape(B, T, *y.shape[1:]).transpose(1, 2)


def _settings(node: fx.Node) -> tuple[list[int], list[int], list[int], int]:
    defaults: list[Any] = [[1, 1, 1], [0, 0, 0], [1, 1, 1], 1]
    given = list(arguments(node)[3:])
    stride, padding, dilation, groups = given + defaults[len(given) :]
    return stride, padding, dilation, groups
