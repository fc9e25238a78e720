"""Temporal Dimension Token Merging (TDTM): the mean of each two neighbouring frames.

Source: Kim et al., "On-device Sora", arXiv 2502.04363, section 3.2. No similarity is computed, so the shapes
are static and the operator is linear.

Legend: B batch, T frames, S tokens of one frame, C channels.

Odd T is a rule of ours: the last frame has no partner, passes through as a group of its own, and comes back
at its own place. The published Python code instead drops that frame from the attention and gives it the
output of the pair before it, and for most lengths (T = 5, 10, 14, 18, 22, 25, …, even ones among them)
fails with a shape error. For even T that the published code can run, both agree.
"""

import torch
from torch import Tensor


def merge_frame_pairs(x_BTSC: Tensor) -> Tensor:
    """Return [B, ⌈T/2⌉, S, C]: frame k is the mean of frames 2k and 2k+1; an odd last frame is kept."""
    num_paired = x_BTSC.shape[1] // 2 * 2
    pairs = (x_BTSC[:, 0:num_paired:2] + x_BTSC[:, 1:num_paired:2]) / 2
    return torch.cat([pairs, x_BTSC[:, num_paired:]], dim=1) if num_paired < x_BTSC.shape[1] else pairs


def unmerge_frame_pairs(x_BtSC: Tensor, num_frames: int) -> Tensor:
    """Return [B, T, S, C]: each merged frame repeated for the frames that it stands for.

    Args:
        x_BtSC: t = ⌈T/2⌉ merged frames.
        num_frames: T, the number of frames before merging.
    """
    return x_BtSC.repeat_interleave(2, dim=1)[:, :num_frames]
