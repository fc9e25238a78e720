"""Operations that move values without changing them, and those that make constants."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tm_export.runtime.engines.coreml_reference.ops.table import Table


def _reshape(x: Tensor, shape: Tensor) -> Tensor:
    sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(shape.tolist())]
    return x.reshape(sizes)


def _expand_dims(x: Tensor, axes: Tensor) -> Tensor:
    rank = x.ndim + axes.numel()
    for axis in sorted(axis % rank for axis in axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def _squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(axes.tolist())


def _transpose(x: Tensor, perm: Tensor) -> Tensor:
    return x.permute(perm.tolist())


def _concat(values: Sequence[Tensor], axis: Tensor, interleave: Tensor) -> Tensor:
    dim = int(axis) % values[0].ndim
    if interleave:
        return torch.stack(tuple(values), dim + 1).flatten(dim, dim + 1)
    return torch.cat(tuple(values), dim)


def _stack(values: Sequence[Tensor], axis: Tensor) -> Tensor:
    return torch.stack(tuple(values), int(axis))


def _split(
    x: Tensor, axis: Tensor, num_splits: Tensor | None = None, split_sizes: Tensor | None = None
) -> Sequence[Tensor]:
    if split_sizes is not None:
        return torch.split(x, split_sizes.tolist(), int(axis))
    assert num_splits is not None, "coremltools' loader refuses a split without num_splits and split_sizes"
    return torch.chunk(x, int(num_splits), int(axis))


def _tile(x: Tensor, reps: Tensor) -> Tensor:
    return x.repeat(reps.tolist())


def _reverse(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.flip(list(range(x.ndim)) if axes is None else axes.tolist())


def _positions(
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None,
    begin_mask: Tensor | None,
    end_mask: Tensor | None,
    squeeze_mask: Tensor | None,
) -> list[Tensor]:
    """For each axis of x the positions that a slice takes; for a squeezed axis a single one."""
    steps = [1] * x.ndim if stride is None else stride.tolist()
    no_mask = [False] * x.ndim
    open_begin = no_mask if begin_mask is None else begin_mask.tolist()
    open_end = no_mask if end_mask is None else end_mask.tolist()
    squeezed = no_mask if squeeze_mask is None else squeeze_mask.tolist()
    positions = []
    for axis, (first, last, step) in enumerate(zip(begin.tolist(), end.tolist(), steps, strict=True)):
        size = x.shape[axis]
        if squeezed[axis]:
            positions.append(torch.tensor([range(size)[first]]))
            continue
        window = slice(None if open_begin[axis] else first, None if open_end[axis] else last, step)
        positions.append(torch.tensor(range(size)[window], dtype=torch.int64))
    return positions


def _slice_by_index(
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    positions = _positions(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    for axis, taken in enumerate(positions):
        if taken.numel() != x.shape[axis] or not torch.equal(taken, torch.arange(x.shape[axis])):
            x = x.index_select(axis, taken)
    return x if squeeze_mask is None else x.squeeze(squeeze_mask.nonzero().flatten().tolist())


def _slice_update(
    x: Tensor,
    update: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    positions = _positions(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    result = x.clone()
    grid = torch.meshgrid(*positions, indexing="ij")
    result[grid] = update.reshape(grid[0].shape)
    return result


def _slice_by_size(x: Tensor, begin: Tensor, size: Tensor) -> Tensor:
    for axis, (first, length) in enumerate(zip(begin.tolist(), size.tolist(), strict=True)):
        x = x.narrow(axis, first, x.shape[axis] - first if length == -1 else length)
    return x


def _pad(x: Tensor, pad: Tensor, mode: str, constant_val: Tensor) -> Tensor:
    sizes = pad.reshape(-1, 2).tolist()
    if mode == "constant":
        return F.pad(x, [n for pair in reversed(sizes) for n in pair], value=constant_val.item())
    for axis, (before, after) in enumerate(sizes, start=x.ndim - len(sizes)):
        size = x.shape[axis]
        position = torch.arange(-before, size + after)
        if mode == "reflect":
            position = (size - 1) - ((size - 1) - position.abs()).abs()
        elif mode == "replicate":
            position = position.clamp(0, size - 1)
        else:
            raise ValueError(f"pad has no mode {mode!r}")
        x = x.index_select(axis, position)
    return x


def _crop(x: Tensor, crop_height: Tensor, crop_width: Tensor) -> Tensor:
    (top, bottom), (left, right) = crop_height.tolist(), crop_width.tolist()
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


def _depth_to_space(x: Tensor, block_size: Tensor) -> Tensor:
    # The offset inside a block varies slowest over the channels (pixel_shuffle: fastest).
    n, c, h, w = x.shape
    b = int(block_size)
    blocks = x.reshape(n, b, b, c // (b * b), h, w)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(n, c // (b * b), h * b, w * b)


def _space_to_depth(x: Tensor, block_size: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b = int(block_size)
    blocks = x.reshape(n, c, h // b, b, w // b, b)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


def _pixel_shuffle(x: Tensor, upscale_factor: Tensor) -> Tensor:
    return F.pixel_shuffle(x, int(upscale_factor))


def _pixel_unshuffle(x: Tensor, downscale_factor: Tensor) -> Tensor:
    return F.pixel_unshuffle(x, int(downscale_factor))


def _sliding_windows(x: Tensor, axis: Tensor, size: Tensor, stride: Tensor) -> Tensor:
    dim = int(axis) % x.ndim
    return x.unfold(dim, int(size), int(stride)).movedim(-1, dim + 1)


def _flatten2d(x: Tensor, axis: Tensor) -> Tensor:
    dim = int(axis) if int(axis) >= 0 else int(axis) + x.ndim
    return x.reshape(x.shape[:dim].numel(), -1)


def _fill(shape: Tensor, value: Tensor) -> Tensor:
    return value.expand(shape.tolist())


def _fill_like(ref_tensor: Tensor, value: Tensor) -> Tensor:
    return value.expand(ref_tensor.shape)


def _range_1d(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), end.item(), step.item())


def _shape(x: Tensor) -> Tensor:
    return torch.tensor(x.shape)


def _identity(x: Tensor) -> Tensor:
    return x


TABLE: Table = {
    "concat": _concat,
    "crop": _crop,
    "depth_to_space": _depth_to_space,
    "expand_dims": _expand_dims,
    "fill": _fill,
    "fill_like": _fill_like,
    "flatten2d": _flatten2d,
    "identity": _identity,
    "pad": _pad,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "range_1d": _range_1d,
    "reshape": _reshape,
    "reverse": _reverse,
    "shape": _shape,
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "slice_update": _slice_update,
    "sliding_windows": _sliding_windows,
    "space_to_depth": _space_to_depth,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
}
