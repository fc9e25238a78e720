"""Weights that are stored small and expanded when used, and 8-bit activations."""

from __future__ import annotations

import torch
from torch import Tensor

from tm_export.runtime.engines.coreml_reference.ops.table import Table


def _repeat_blocks(values: Tensor, shape: torch.Size) -> Tensor:
    """Repeats each value over its block, so that `values` gets `shape` (same rank, sizes that divide)."""
    for axis, (size, blocks) in enumerate(zip(shape, values.shape, strict=True)):
        values = values.repeat_interleave(size // blocks, axis)
    return values


def _blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    centred = data.float()
    if offset is not None:
        centred = centred - _repeat_blocks(offset, data.shape).float()
    return centred * _repeat_blocks(scale, data.shape)


def _lut_to_dense(indices: Tensor, lut: Tensor, vector_axis: Tensor | None = None) -> Tensor:
    # lut: one table of entries x vector for each block of indices.
    entries, width = lut.shape[-2:]
    tables = lut.reshape(*lut.shape[:-2], entries * width)
    spread = tables
    for axis, size in enumerate(indices.shape):
        spread = spread.repeat_interleave(size // tables.shape[axis], axis)
    spread = spread.reshape(*indices.shape, entries, width)
    index = indices.long()[..., None, None].expand(*indices.shape, 1, width)
    vectors = spread.gather(-2, index).squeeze(-2)
    if vector_axis is None:
        return vectors.squeeze(-1)
    axis = int(vector_axis) % indices.ndim
    return vectors.movedim(-1, axis + 1).flatten(axis, axis + 1)


def _sparse_to_dense(nonzero_data: Tensor, mask: Tensor) -> Tensor:
    dense = torch.zeros(mask.shape, dtype=nonzero_data.dtype)
    dense[mask.bool()] = nonzero_data
    return dense


def _per_axis(values: Tensor, rank: int, axis: Tensor | None) -> Tensor:
    if values.ndim == 0 or axis is None:
        return values
    shape = [1] * rank
    shape[int(axis)] = -1
    return values.reshape(shape)


def _quantize(
    input: Tensor,
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: Tensor | None = None,
) -> Tensor:
    steps = torch.round(input / _per_axis(scale, input.ndim, axis))
    if zero_point is not None:
        steps = steps + _per_axis(zero_point, input.ndim, axis)
    bounds = torch.iinfo(getattr(torch, output_dtype))
    return steps.clamp(bounds.min, bounds.max)


def _dequantize(input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
    centred = input.float()
    if zero_point is not None:
        centred = centred - _per_axis(zero_point, input.ndim, axis)
    return centred * _per_axis(scale, input.ndim, axis)


def _constexpr_cast(source_val: Tensor, output_dtype: str) -> Tensor:
    return source_val.to({"fp32": torch.float32}[output_dtype])


TABLE: Table = {
    "constexpr_blockwise_shift_scale": _blockwise_shift_scale,
    "constexpr_cast": _constexpr_cast,
    "constexpr_lut_to_dense": _lut_to_dense,
    "constexpr_sparse_to_dense": _sparse_to_dense,
    "dequantize": _dequantize,
    "quantize": _quantize,
}
