"""Pooling and resizing over the last axes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tm_export.runtime.engines.coreml_reference.ops.linear import pad_spatial, resolve_padding
from tm_export.runtime.engines.coreml_reference.ops.table import Table

_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _require_floor(ceil_mode: Tensor) -> None:
    if ceil_mode:
        raise NotImplementedError("pooling with ceil_mode is not evaluated; pad the input to a whole number of windows")


def _max_pool(
    x: Tensor, kernel_sizes: Tensor, strides: Tensor, pad_type: str, pad: Tensor, ceil_mode: Tensor
) -> Tensor:
    _require_floor(ceil_mode)
    kernel, step = kernel_sizes.tolist(), strides.tolist()
    pads = resolve_padding(pad_type, pad, x.shape[2:], kernel, step)
    return _MAX_POOL[x.ndim - 2](pad_spatial(x, pads, value=float("-inf")), kernel, step)


def _avg_pool(
    x: Tensor,
    kernel_sizes: Tensor,
    strides: Tensor,
    pad_type: str,
    pad: Tensor,
    exclude_padding_from_average: Tensor,
    ceil_mode: Tensor,
) -> Tensor:
    _require_floor(ceil_mode)
    kernel, step = kernel_sizes.tolist(), strides.tolist()
    pads = resolve_padding(pad_type, pad, x.shape[2:], kernel, step)
    pool = _AVG_POOL[x.ndim - 2]
    mean = pool(pad_spatial(x, pads), kernel, step)
    if exclude_padding_from_average:
        mean = mean / pool(pad_spatial(torch.ones_like(x), pads), kernel, step)
    return mean


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


TABLE: Table = {
    "avg_pool": _avg_pool,
    "max_pool": _max_pool,
    "resize": _resize,
    "resize_bilinear": _resize_bilinear,
    "resize_nearest_neighbor": _resize_nearest_neighbor,
    "upsample_bilinear": _upsample_bilinear,
    "upsample_nearest_neighbor": _upsample_nearest_neighbor,
}
