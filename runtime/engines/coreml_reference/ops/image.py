"""Pooling and resizing over the last axes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tm_export.runtime.engines.coreml_reference.ops.linear import pad_spatial, resolve_padding
from tm_export.runtime.engines.coreml_reference.ops.table import Table

_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _beyond(
    sizes: Sequence[int], pads: Sequence[int], kernel: Sequence[int], step: Sequence[int], is_ceil: bool
) -> list[int]:
    """How far the last window reaches beyond the padding, before and after each axis.

    With `ceil_mode` a window counts that begins inside.
    """
    beyond = []
    for i, (size, width, stride) in enumerate(zip(sizes, kernel, step, strict=True)):
        before, after = pads[2 * i], pads[2 * i + 1]
        windows = -(-(size + before + after - width) // stride) + 1
        if (windows - 1) * stride >= size + before:
            windows -= 1
        beyond += [0, max(0, (windows - 1) * stride + width - size - before - after) if is_ceil else 0]
    return beyond


def _max_pool(
    x: Tensor, kernel_sizes: Tensor, strides: Tensor, pad_type: str, pad: Tensor, ceil_mode: Tensor
) -> Tensor:
    kernel, step = kernel_sizes.tolist(), strides.tolist()
    pads = resolve_padding(pad_type, pad, x.shape[2:], kernel, step)
    beyond = _beyond(x.shape[2:], pads, kernel, step, bool(ceil_mode))
    whole = pad_spatial(pad_spatial(x, pads, value=float("-inf")), beyond, value=float("-inf"))
    return _MAX_POOL[x.ndim - 2](whole, kernel, step)


def _avg_pool(
    x: Tensor,
    kernel_sizes: Tensor,
    strides: Tensor,
    pad_type: str,
    pad: Tensor,
    exclude_padding_from_average: Tensor,
    ceil_mode: Tensor,
) -> Tensor:
    kernel, step = kernel_sizes.tolist(), strides.tolist()
    pads = resolve_padding(pad_type, pad, x.shape[2:], kernel, step)
    beyond = _beyond(x.shape[2:], pads, kernel, step, bool(ceil_mode))
    pool = _AVG_POOL[x.ndim - 2]
    padded = pad_spatial(x, pads)
    counted = pad_spatial(torch.ones_like(x), pads) if exclude_padding_from_average else torch.ones_like(padded)
    return pool(pad_spatial(padded, beyond), kernel, step) / pool(pad_spatial(counted, beyond), kernel, step)


def _sample_positions(mode: str, size: int, target: int) -> Tensor:
    """Where on an axis of `size` each of `target` outputs samples (MIL's table of sampling modes)."""
    index = torch.arange(target, dtype=torch.float64)
    match mode:
        case "ALIGN_CORNERS" if target == 1:
            position = torch.tensor([(size - 1) / 2], dtype=torch.float64)
        case "STRICT_ALIGN_CORNERS" | "ALIGN_CORNERS":
            position = index * (size - 1) / max(target - 1, 1)
        case "DEFAULT":
            position = index * size / target
        case "OFFSET_CORNERS":
            position = (index + 0.5) * max(1, size - 1) / target
        case "UNALIGN_CORNERS":
            position = (index + 0.5) * size / target - 0.5
        case _:
            raise ValueError(f"there is no sampling mode {mode!r}")
    return position.clamp(0, size - 1)


def _interpolate(x: Tensor, axis: int, position: Tensor) -> Tensor:
    """Linear interpolation of x along one axis."""
    below = position.floor().long()
    above = (below + 1).clamp(max=x.shape[axis] - 1)
    share = (position - below).to(x.dtype).reshape(-1, *[1] * (-axis - 1))
    return torch.lerp(x.index_select(axis, below), x.index_select(axis, above), share)


def _bilinear(x: Tensor, height: int, width: int, mode: str) -> Tensor:
    x = _interpolate(x, -2, _sample_positions(mode, x.shape[-2], height))
    return _interpolate(x, -1, _sample_positions(mode, x.shape[-1], width))


def _nearest(x: Tensor, height: int, width: int) -> Tensor:
    rows = torch.arange(height) * x.shape[-2] // height
    columns = torch.arange(width) * x.shape[-1] // width
    return x.index_select(-2, rows).index_select(-1, columns)


def _scaled_size(x: Tensor, scale_height: Tensor, scale_width: Tensor) -> tuple[int, int]:
    return int(x.shape[-2] * scale_height), int(x.shape[-1] * scale_width)


def _upsample_nearest_neighbor(x: Tensor, scale_factor_height: Tensor, scale_factor_width: Tensor) -> Tensor:
    return _nearest(x, *_scaled_size(x, scale_factor_height, scale_factor_width))


def _resize_nearest_neighbor(x: Tensor, target_size_height: Tensor, target_size_width: Tensor) -> Tensor:
    return _nearest(x, int(target_size_height), int(target_size_width))


def _upsample_bilinear(
    x: Tensor,
    scale_factor_height: Tensor,
    scale_factor_width: Tensor,
    align_corners: Tensor,
    half_pixel_centers: Tensor | None = None,
) -> Tensor:
    if align_corners:
        mode = "STRICT_ALIGN_CORNERS"
    elif half_pixel_centers is None or half_pixel_centers:
        mode = "UNALIGN_CORNERS"
    else:
        mode = "DEFAULT"
    return _bilinear(x, *_scaled_size(x, scale_factor_height, scale_factor_width), mode)


def _resize_bilinear(x: Tensor, target_size_height: Tensor, target_size_width: Tensor, sampling_mode: str) -> Tensor:
    return _bilinear(x, int(target_size_height), int(target_size_width), sampling_mode)


def _resize(x: Tensor, shape: Tensor, resized_dims: Tensor, interpolation_mode: str, sampling_mode: str) -> Tensor:
    if interpolation_mode != "LINEAR":
        raise NotImplementedError("resize is evaluated with LINEAR interpolation only; use upsample_nearest_neighbor")
    count = int(resized_dims)
    for axis, target in zip(range(-count, 0), shape.tolist()[-count:], strict=True):
        x = _interpolate(x, axis, _sample_positions(sampling_mode, x.shape[axis], target or x.shape[axis]))
    return x


_PADDING = {"constant": "zeros", "border": "border", "reflection": "reflection", "symmetric": "reflection"}


def _resample(
    x: Tensor,
    coordinates: Tensor,
    sampling_mode: str,
    padding_mode: str,
    padding_value: Tensor,
    coordinates_mode: str,
    align_corners: Tensor,
) -> Tensor:
    mirrored_at_centres = padding_mode == "reflection"
    if padding_mode in ("reflection", "symmetric") and mirrored_at_centres != bool(align_corners):
        raise NotImplementedError(f"resample with padding {padding_mode!r} is evaluated with one align_corners only")
    if coordinates_mode != "normalized_minus_one_to_one" or float(padding_value) != 0:
        raise NotImplementedError("resample is evaluated with coordinates from -1 to 1 and a padding of 0 only")
    return F.grid_sample(
        x, coordinates, mode=sampling_mode, padding_mode=_PADDING[padding_mode], align_corners=bool(align_corners)
    )


TABLE: Table = {
    "avg_pool": _avg_pool,
    "max_pool": _max_pool,
    "resample": _resample,
    "resize": _resize,
    "resize_bilinear": _resize_bilinear,
    "resize_nearest_neighbor": _resize_nearest_neighbor,
    "upsample_bilinear": _upsample_bilinear,
    "upsample_nearest_neighbor": _upsample_nearest_neighbor,
}
