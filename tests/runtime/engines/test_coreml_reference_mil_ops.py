"""The operations, and forms of them, that PyTorch's front end does not emit: built with MIL's own builder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_coreml_reference_torch_ops as torch_ops
import torch
import torch.nn.functional as F
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import types
from test_coreml_reference_torch_ops import distinct, integers, values
from torch import Tensor

from tests.support.coreml_programs import assert_close, op_types, run_reference, save_mil
from tm_export.runtime.engines.coreml_reference.ops import ARITHMETIC, MOVEMENT


@dataclass(frozen=True)
class MilCase:
    """`build(t, *vars)` makes MIL with constants of NumPy type t; `expected` is the same in torch."""

    name: str
    ops: frozenset[str]
    build: Callable[..., Any]
    expected: Callable[..., Any]
    args: Callable[[], tuple[Tensor, ...]]
    roundings: int = 1


def case(
    name: str,
    ops: str,
    build: Callable[..., Any],
    expected: Callable[..., Any],
    *args: Callable[[], Tensor],
    roundings: int = 1,
) -> MilCase:
    return MilCase(name, frozenset(ops.split()), build, expected, lambda: tuple(a() for a in args), roundings)


def x234() -> Tensor:
    return values(2, 3, 4)


def images() -> Tensor:
    return values(2, 4, 6, 5)


def mode_cases() -> list[MilCase]:
    """Every scatter mode, for the three scatters, with repeated indices (except where order would matter)."""

    def by_rows(data: Tensor, rows: Tensor, updates: Tensor, mode: str) -> Tensor:
        result = data.clone()
        for row, update in zip(rows.tolist(), updates, strict=True):
            match mode:
                case "add":
                    result[row] += update
                case "sub":
                    result[row] -= update
                case "mul":
                    result[row] *= update
                case "div":
                    result[row] /= update
                case "max":
                    result[row] = torch.maximum(result[row], update)
                case "min":
                    result[row] = torch.minimum(result[row], update)
                case "update":
                    result[row] = update
        return result

    cases = []
    for mode in ("add", "sub", "mul", "div", "max", "min", "update"):
        rows = [3, 0, 1] if mode == "update" else [3, 0, 3]

        def build(t: Any, data: Any, updates: Any, mode: str = mode, rows: list[int] = rows) -> Any:
            along = np.array(rows, np.int32)[:, None].repeat(4, 1)
            nd = np.array([[r, c] for r in rows for c in range(4)], np.int32)
            return (
                mb.scatter(data=data, indices=np.array(rows, np.int32), updates=updates, axis=0, mode=mode),
                mb.scatter_along_axis(data=data, indices=along, updates=updates, axis=0, mode=mode),
                mb.scatter_nd(data=data, indices=nd, updates=mb.reshape(x=updates, shape=[12]), mode=mode),
            )

        def expected(data: Tensor, updates: Tensor, mode: str = mode, rows: list[int] = rows) -> Any:
            return (by_rows(data, torch.tensor(rows), updates, mode),) * 3

        cases.append(
            case(
                f"scatter-{mode}",
                "scatter scatter_along_axis scatter_nd",
                build,
                expected,
                lambda: values(5, 4),
                lambda: values(3, 4, low=0.5),
                roundings=2,
            )
        )
    return cases


def linear_samples(x: Tensor, height: int, width: int, position: Callable[[int, int, int], float]) -> Tensor:
    """Bilinear sampling, one output at a time, at the positions that MIL documents."""
    out = torch.empty(*x.shape[:-2], height, width)
    for i in range(height):
        for j in range(width):
            r = min(max(position(i, x.shape[-2], height), 0.0), x.shape[-2] - 1.0)
            c = min(max(position(j, x.shape[-1], width), 0.0), x.shape[-1] - 1.0)
            r0, c0 = int(r), int(c)
            r1, c1 = min(r0 + 1, x.shape[-2] - 1), min(c0 + 1, x.shape[-1] - 1)
            top = x[..., r0, c0] * (1 - (c - c0)) + x[..., r0, c1] * (c - c0)
            bottom = x[..., r1, c0] * (1 - (c - c0)) + x[..., r1, c1] * (c - c0)
            out[..., i, j] = top * (1 - (r - r0)) + bottom * (r - r0)
    return out


SAMPLING = {
    "STRICT_ALIGN_CORNERS": lambda i, n, m: i * (n - 1) / (m - 1),
    "ALIGN_CORNERS": lambda i, n, m: i * (n - 1) / (m - 1),
    "DEFAULT": lambda i, n, m: i * (n - n / m) / (m - 1),
    "OFFSET_CORNERS": lambda i, n, m: 0.5 * max(1, n - 1) / m + i * max(1, n - 1) / m,
    "UNALIGN_CORNERS": lambda i, n, m: (i + 0.5) * n / m - 0.5,
}
INT4 = np.arange(-8, 8).reshape(4, 4)
HALF_WEIGHT = np.float16([[0.1, -0.2], [0.3, 7.77], [1e-4, 2], [-5, 1 / 3]])
TABLE_INDICES = np.array([[0, 1, 2, 3], [3, 2, 1, 0], [1, 1, 0, 2], [2, 0, 3, 1]])
LUT = (np.arange(8) - 3.5).reshape(2, 1, 4, 1) / 2
SPARSE_MASK = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
CONV_WEIGHT = values(3, 4, 3, 2)
TRANSPOSED_WEIGHT = values(4, 3, 3, 3)


def dense(values: list[int]) -> Tensor:
    result = torch.zeros(4, 4)
    result[torch.tensor(SPARSE_MASK, dtype=torch.bool)] = torch.tensor(values).float()
    return result


CASES = [
    case(
        "activations",
        "clamped_relu linear_activation scaled_tanh softsign threshold thresholded_relu square inverse relu6",
        lambda t, x: (
            mb.clamped_relu(x=x, alpha=t(0.5), beta=t(1.5)),
            mb.linear_activation(x=x, alpha=t(0.5), beta=t(-1.5)),
            mb.scaled_tanh(x=x, alpha=t(0.5), beta=t(1.5)),
            mb.softsign(x=x),
            mb.threshold(x=x, alpha=t(0.5)),
            mb.thresholded_relu(x=x, alpha=t(0.5)),
            mb.square(x=x),
            mb.inverse(x=x, epsilon=t(0.0)),
            mb.inverse(x=x, epsilon=t(0.125)),
            mb.relu6(x=x),
        ),
        lambda x: (
            torch.where(x >= 0, x, 0.5 * x).clamp(max=1.5),
            0.5 * x - 1.5,
            0.5 * torch.tanh(1.5 * x),
            F.softsign(x),
            x.clamp(min=0.5),
            torch.where(x >= 0.5, x, 0.0),
            x * x,
            1 / x,
            1 / (x + 0.125),
            F.relu6(x),
        ),
        x234,
    ),
    case(
        "channel-activations",
        "prelu softplus_parametric",
        lambda t, x: (
            mb.prelu(x=x, alpha=np.array([0.25, 0.5, 2, -1], t)),
            mb.softplus_parametric(x=x, alpha=np.array([0.25, 0.5, 2, -1], t), beta=np.array([1, 2, 0.5, 1], t)),
        ),
        lambda x: (
            F.prelu(x, torch.tensor([0.25, 0.5, 2, -1])),
            torch.tensor([0.25, 0.5, 2, -1]).reshape(4, 1, 1)
            * torch.log1p(torch.exp(torch.tensor([1, 2, 0.5, 1]).reshape(4, 1, 1) * x)),
        ),
        images,
    ),
    case(
        "gelu-modes",
        "gelu",
        lambda t, x: tuple(mb.gelu(x=x, mode=m) for m in ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")),
        lambda x: (F.gelu(x), F.gelu(x, approximate="tanh"), x / (1 + torch.exp(-1.702 * x))),
        x234,
    ),
    case(
        "mod",
        "mod floor_div",
        lambda t, x, i: (
            mb.mod(x=x, y=t(-0.75)),
            mb.mod(x=i, y=np.int32(-4)),
            mb.floor_div(x=i, y=np.int32(-4)),
            mb.floor_div(x=x, y=t(-0.75)),
        ),
        lambda x, i: (
            torch.from_numpy(np.mod(x.numpy(), np.float32(-0.75))),
            torch.from_numpy(np.mod(i.numpy(), -4)),
            torch.from_numpy(i.numpy() // -4),
            torch.floor(x / -0.75),
        ),
        x234,
        lambda: integers(3, 5),
    ),
    case(
        "reductions",
        "reduce_prod reduce_l1_norm reduce_log_sum reduce_sum_square reduce_l2_norm reduce_mean",
        lambda t, x: (
            mb.reduce_prod(x=x, axes=[0, 2], keep_dims=True),
            mb.reduce_prod(x=x, axes=[0, -1]),
            mb.reduce_l1_norm(x=x, axes=[1]),
            mb.reduce_log_sum(x=x, axes=[1]),
            mb.reduce_sum_square(x=x, axes=[1]),
            mb.reduce_l2_norm(x=x, axes=[-1]),
            mb.reduce_mean(x=x, axes=None, keep_dims=True),
            mb.cast(x=mb.reduce_argmax(x=x, axis=1, output_dtype="uint16"), dtype="int32"),
        ),
        lambda x: (
            x.prod(0, keepdim=True).prod(2, keepdim=True),
            x.prod(0).prod(1),
            x.abs().sum(1),
            x.sum(1).log(),
            (x * x).sum(1),
            x.norm(dim=-1),
            x.mean((0, 1, 2), keepdim=True),
            x.argmax(1),
        ),
        lambda: values(2, 3, 4, low=0.25),
        roundings=2,
    ),
    case(
        "first-of-equals-wins",
        "topk argsort reduce_argmax reduce_argmin",
        lambda t, x: (
            mb.topk(x=x, k=3, axis=-1)[1],
            mb.topk(x=x, k=3, axis=-1, ascending=True)[1],
            mb.argsort(x=x, axis=-1),
            mb.reduce_argmax(x=x, axis=-1),
            mb.reduce_argmin(x=x, axis=-1),
        ),
        lambda x: (
            torch.tensor([[1, 2, 0], [0, 1, 2]]),
            torch.tensor([[3, 0, 1], [0, 1, 2]]),
            torch.tensor([[1, 2, 0, 3], [0, 1, 2, 3]]),
            torch.tensor([1, 0]),
            torch.tensor([3, 0]),
        ),
        lambda: torch.tensor([[1.0, 2.0, 2.0, 0.0], [5.0, 5.0, 5.0, 5.0]]),
    ),
    case(
        "order",
        "topk argsort cumsum",
        lambda t, x: (
            mb.topk(x=x, k=2, axis=1, return_indices=False, output_indices_dtype=None),
            *mb.topk(x=x, k=2, axis=1, ascending=True, sort=False),
            mb.argsort(x=x, axis=0, ascending=True),
            mb.cumsum(x=x, axis=1, exclusive=True),
            mb.cumsum(x=x, axis=0, reverse=True),
            mb.cumsum(x=x, axis=1, exclusive=True, reverse=True),
        ),
        lambda x: (
            x.topk(2, 1).values,
            *x.topk(2, 1, largest=False),
            x.argsort(0),
            x.cumsum(1) - x,
            x.flip(0).cumsum(0).flip(0),
            x.flip(1).cumsum(1).flip(1) - x,
        ),
        lambda: distinct(4, 5),
    ),
    case(
        "gather-batches",
        "gather gather_nd gather_along_axis",
        lambda t, x, i: (
            mb.gather(x=x, indices=i, axis=2, batch_dims=1),
            mb.gather(x=x, indices=mb.cast(x=i, dtype="uint16"), axis=-2),
            mb.gather_nd(x=x, indices=mb.expand_dims(x=i, axes=[-1]), batch_dims=1),
            mb.gather_nd(x=x, indices=i),
            mb.gather_along_axis(x=x, indices=mb.tile(x=mb.expand_dims(x=i, axes=[2]), reps=[1, 1, 4]), axis=-2),
        ),
        lambda x, i: (
            torch.stack([x[b][:, i[b].long()] for b in range(2)]),
            x[:, i.long()],
            torch.stack([x[b][i[b].long()] for b in range(2)]),
            torch.stack([x[tuple(row)] for row in i.long()]),
            torch.take_along_dim(x, i.long()[..., None].expand(-1, -1, 4), 1),
        ),
        x234,
        lambda: torch.tensor([[1, 0, 2], [0, 2, 1]], dtype=torch.int32),
    ),
    case(
        "one-hot",
        "one_hot",
        lambda t, i: (
            mb.one_hot(indices=i, one_hot_vector_size=5, on_value=t(1), off_value=t(0)),
            mb.one_hot(indices=i, one_hot_vector_size=5, axis=0, on_value=t(2), off_value=t(-1)),
        ),
        lambda i: (
            F.one_hot(i.long(), 5).float(),
            F.one_hot(i.long(), 5).permute(2, 0, 1) * 3.0 - 1,
        ),
        lambda: integers(2, 3, low=0, high=5),
    ),
    case(
        "one-hot-outside",
        "one_hot",
        lambda t, i: mb.one_hot(indices=i, one_hot_vector_size=3, on_value=t(1), off_value=t(0)),
        lambda i: torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 0, 0]]),
        lambda: torch.tensor([-1, 2, 3], dtype=torch.int32),
    ),
    case(
        "slices",
        "slice_by_index slice_by_size slice_update reverse",
        lambda t, x: (
            mb.slice_by_index(
                x=x,
                begin=[0, 3, 5],
                end=[0, 0, 0],
                stride=[1, -1, -2],
                begin_mask=[True, False, False],
                end_mask=[True, False, True],
            ),
            mb.slice_by_index(x=x, begin=[-1, 1, -3], end=[0, -1, -1], squeeze_mask=[True, False, False]),
            mb.slice_by_index(
                x=x,
                begin=[0, 0, 0],
                end=[2, 4, 6],
                stride=[1, -1, -1],
                begin_mask=[True, True, True],
                end_mask=[True, True, True],
            ),
            mb.slice_by_size(x=x, begin=[0, 1, 2], size=[2, 2, -1]),
            mb.slice_update(
                x=x,
                update=mb.slice_by_size(x=x, begin=[0, 0, 0], size=[2, 2, 3]),
                begin=[0, 1, 0],
                end=[0, 3, 6],
                stride=[1, 1, 2],
                begin_mask=[True, False, False],
                end_mask=[True, False, False],
            ),
            mb.reverse(x=x),
        ),
        lambda x: (
            torch.from_numpy(x.numpy()[:, 3:0:-1, 5::-2].copy()),
            x[-1, 1:-1, -3:-1],
            torch.from_numpy(x.numpy()[::1, ::-1, ::-1].copy()),
            x[:, 1:3, 2:],
            torch.stack(
                [
                    x[:, 0],
                    *(
                        torch.stack([x[:, i - 1, j // 2] if j % 2 == 0 else x[:, i, j] for j in range(6)], -1)
                        for i in (1, 2)
                    ),
                    x[:, 3],
                ],
                1,
            ),
            x.flip([0, 1, 2]),
        ),
        lambda: values(2, 4, 6),
    ),
    case(
        "rearrange",
        "depth_to_space space_to_depth pixel_shuffle pixel_unshuffle sliding_windows flatten2d concat identity crop",
        lambda t, x: (
            mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)),
            mb.pixel_shuffle(x=x, upscale_factor=2),
            mb.space_to_depth(x=x, block_size=2),
            mb.depth_to_space(x=mb.space_to_depth(x=x, block_size=2), block_size=2),
            mb.depth_to_space(x=x, block_size=2),
            mb.sliding_windows(x=x, axis=-2, size=3, stride=2),
            mb.flatten2d(x=x, axis=-2),
            mb.concat(values=[x, mb.reverse(x=x)], axis=1, interleave=True),
            mb.identity(x=x),
            mb.crop(x=x, crop_height=[1, 2], crop_width=[0, 1]),
        ),
        lambda x: (
            F.pixel_unshuffle(x, 2),
            F.pixel_shuffle(x, 2),
            # Same blocks, but the offset in the block varies slower than the channel.
            F.pixel_unshuffle(x, 2).reshape(2, 4, 4, 3, 2).transpose(1, 2).reshape(2, 16, 3, 2),
            x,
            F.pixel_shuffle(x.reshape(2, 4, 1, 6, 4).transpose(1, 2).reshape(2, 4, 6, 4), 2),
            torch.stack([x[:, :, 0:3], x[:, :, 2:5]], 2),
            x.reshape(8, 24),
            torch.stack([x, x.flip([0, 1, 2, 3])], 2).flatten(1, 2),
            x,
            x[:, :, 1:4, :3],
        ),
        lambda: values(2, 4, 6, 4),
    ),
    case(
        "makers",
        "fill fill_like range_1d shape tile stack",
        lambda t, x: (
            mb.fill(shape=[2, 3], value=t(1.5)),
            mb.fill_like(ref_tensor=x, value=t(-2)),
            mb.range_1d(start=np.int32(7), end=np.int32(0), step=np.int32(-2)),
            mb.shape(x=x),
            mb.tile(x=x, reps=[1, 2, 3]),
            mb.stack(values=[x, x], axis=-1),
        ),
        lambda x: (
            torch.full((2, 3), 1.5),
            torch.full_like(x, -2),
            torch.tensor([7, 5, 3, 1]),
            torch.tensor(x.shape),
            torch.from_numpy(np.tile(x.numpy(), (1, 2, 3))),
            torch.stack([x, x], -1),
        ),
        x234,
    ),
    case(
        "norms",
        "l2_norm local_response_norm layer_norm instance_norm batch_norm",
        lambda t, x: (
            mb.l2_norm(x=x, epsilon=t(0.5)),
            mb.local_response_norm(x=x, size=3, alpha=t(0.5), beta=t(0.75), k=t(2.0)),
            mb.layer_norm(x=x, axes=[1, 3], epsilon=t(0.5), gamma=np.full((4, 5), 2, t), beta=np.full((4, 5), 1, t)),
            mb.layer_norm(x=x, axes=[-1, -2], epsilon=t(0.5)),
            mb.instance_norm(x=x, epsilon=t(0.5)),
            mb.batch_norm(x=x, mean=np.arange(4).astype(t), variance=np.full(4, 4, t), epsilon=t(0)),
        ),
        lambda x: (
            x / torch.sqrt((x * x).sum((1, 2, 3), keepdim=True) + 0.5),
            F.local_response_norm(x, 3, 0.5, 0.75, 2.0),
            F.layer_norm(x.transpose(1, 2), (4, 5), torch.full((4, 5), 2.0), torch.ones(4, 5), 0.5).transpose(1, 2),
            F.layer_norm(x, (6, 5), eps=0.5),
            F.instance_norm(x, eps=0.5),
            (x - torch.arange(4.0).reshape(4, 1, 1)) / 2,
        ),
        images,
        roundings=2,
    ),
    case(
        "conv-same",
        "conv",
        lambda t, x: tuple(
            mb.conv(x=x, weight=CONV_WEIGHT.numpy().astype(t), strides=[2, 1], pad_type=kind)
            for kind in ("same", "same_lower", "valid")
        ),
        # Height 6, kernel 3, stride 2: one row to pad; width 5, kernel 2, stride 1: one column.
        lambda x: tuple(
            F.conv2d(F.pad(x, pads), CONV_WEIGHT, stride=(2, 1)) for pads in ((0, 1, 0, 1), (1, 0, 1, 0), (0, 0, 0, 0))
        ),
        images,
    ),
    case(
        "conv-transpose",
        "conv_transpose",
        lambda t, x: (
            mb.conv_transpose(x=x, weight=TRANSPOSED_WEIGHT.numpy().astype(t), strides=[2, 2]),
            mb.conv_transpose(
                x=x,
                weight=TRANSPOSED_WEIGHT.numpy().astype(t),
                strides=[2, 2],
                pad_type="custom",
                pad=[1, 0, 0, 1],
                bias=np.array([1, 2, 3], t),
            ),
            mb.conv_transpose(
                x=x,
                weight=TRANSPOSED_WEIGHT.numpy().astype(t),
                strides=[2, 2],
                pad_type="custom",
                pad=[1, 1, 1, 1],
                output_shape=[2, 3, 12, 10],
                bias=np.array([1, 2, 3], t),
            ),
            mb.conv_transpose(x=x, weight=TRANSPOSED_WEIGHT.numpy().astype(t), pad_type="same"),
        ),
        lambda x: (
            F.conv_transpose2d(x, TRANSPOSED_WEIGHT, stride=2),
            F.conv_transpose2d(x, TRANSPOSED_WEIGHT, torch.tensor([1.0, 2, 3]), stride=2)[:, :, 1:, :-1],
            F.conv_transpose2d(x, TRANSPOSED_WEIGHT, torch.tensor([1.0, 2, 3]), stride=2, padding=1, output_padding=1),
            F.conv_transpose2d(x, TRANSPOSED_WEIGHT, padding=1),
        ),
        images,
    ),
    case(
        "pools",
        "avg_pool max_pool",
        lambda t, x: (
            mb.max_pool(x=x, kernel_sizes=[3, 2], strides=[2, 1], pad_type="same"),
            mb.avg_pool(x=x, kernel_sizes=[3, 2], strides=[2, 1], pad_type="same_lower"),
            mb.avg_pool(
                x=x,
                kernel_sizes=[3, 2],
                strides=[2, 1],
                pad_type="custom",
                pad=[1, 0, 0, 1],
                exclude_padding_from_average=True,
            ),
        ),
        lambda x: (
            F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), (3, 2), (2, 1)),
            F.avg_pool2d(F.pad(x, (1, 0, 1, 0)), (3, 2), (2, 1)),
            F.avg_pool2d(F.pad(x, (0, 1, 1, 0)), (3, 2), (2, 1))
            / F.avg_pool2d(F.pad(torch.ones_like(x), (0, 1, 1, 0)), (3, 2), (2, 1)),
        ),
        images,
    ),
    *(
        case(
            f"resize-{mode}",
            "resize resize_bilinear",
            lambda t, x, mode=mode: (
                mb.resize(x=x, shape=[9, 0], resized_dims=np.uint32(2), sampling_mode=mode),
                mb.resize_bilinear(x=x, target_size_height=4, target_size_width=9, sampling_mode=mode),
            ),
            lambda x, mode=mode: (
                linear_samples(x, 9, 5, SAMPLING[mode]),
                linear_samples(x, 4, 9, SAMPLING[mode]),
            ),
            images,
            roundings=2,
        )
        for mode in SAMPLING
    ),
    case(
        "resize-nearest",
        "resize_nearest_neighbor upsample_nearest_neighbor upsample_bilinear",
        lambda t, x: (
            mb.resize_nearest_neighbor(x=x, target_size_height=9, target_size_width=3),
            mb.upsample_nearest_neighbor(x=x, scale_factor_height=np.float32(1.5), scale_factor_width=np.float32(2)),
            mb.upsample_bilinear(
                x=x,
                scale_factor_height=2,
                scale_factor_width=2,
                align_corners=False,
                half_pixel_centers=False,
            ),
        ),
        lambda x: (
            F.interpolate(x, (9, 3)),
            F.interpolate(x, (9, 10)),
            linear_samples(x, 12, 10, SAMPLING["DEFAULT"]),
        ),
        images,
        roundings=2,
    ),
    case(
        "quantised-activations",
        "quantize dequantize",
        lambda t, x: (
            mb.dequantize(
                input=mb.quantize(input=x, zero_point=np.int8(3), scale=t(0.25), output_dtype="int8"),
                zero_point=np.int8(3),
                scale=t(0.25),
            ),
            mb.cast(
                x=mb.quantize(
                    input=x,
                    zero_point=np.array([1, 2, 3], np.uint8),
                    scale=np.array([0.5, 1, 2], t),
                    axis=1,
                    output_dtype="uint8",
                ),
                dtype="int32",
            ),
        ),
        lambda x: (
            (torch.round(x / 0.25) + 3).clamp(-128, 127) * 0.25 - 0.75,
            (torch.round(x / torch.tensor([0.5, 1, 2]).reshape(3, 1)) + torch.tensor([1.0, 2, 3]).reshape(3, 1))
            .clamp(0, 255)
            .int(),
        ),
        lambda: values(2, 3, 4, low=-50, high=50),
    ),
    case(
        "stored-small",
        "constexpr_blockwise_shift_scale constexpr_lut_to_dense constexpr_sparse_to_dense matmul",
        lambda t, x: (
            mb.matmul(
                x=x,
                y=mb.constexpr_blockwise_shift_scale(
                    data=INT4.astype(types.np_int4_dtype),
                    scale=np.array([[0.5, 2], [1, 4]], t),
                    offset=np.array([[1, 0], [-1, 2]]).astype(types.np_int4_dtype),
                ),
            ),
            mb.matmul(
                x=x,
                y=mb.constexpr_blockwise_shift_scale(
                    data=INT4.astype(np.int8), scale=np.array([[0.5], [2], [1], [4]], t)
                ),
            ),
            mb.matmul(
                x=x,
                y=mb.constexpr_lut_to_dense(indices=TABLE_INDICES.astype(types.np_uint2_dtype), lut=LUT.astype(t)),
            ),
            mb.matmul(
                x=x,
                y=mb.constexpr_lut_to_dense(
                    indices=TABLE_INDICES[:2].astype(types.np_uint2_dtype),
                    lut=LUT.reshape(1, 1, 4, 2).astype(t),
                    vector_axis=np.int32(0),
                ),
            ),
            mb.matmul(
                x=x,
                y=mb.constexpr_sparse_to_dense(
                    nonzero_data=np.arange(1, 8).astype(t), mask=SPARSE_MASK.astype(types.np_uint1_dtype)
                ),
            ),
        ),
        lambda x: (
            x
            @ torch.tensor(
                [
                    [
                        (INT4[i, j] - [[1, 0], [-1, 2]][i // 2][j // 2]) * [[0.5, 2], [1, 4]][i // 2][j // 2]
                        for j in range(4)
                    ]
                    for i in range(4)
                ],
                dtype=torch.float32,
            ),
            x @ (torch.tensor(INT4) * torch.tensor([[0.5], [2], [1], [4]])).float(),
            x @ torch.tensor([[LUT[i // 2, 0, TABLE_INDICES[i, j], 0] for j in range(4)] for i in range(4)]).float(),
            x
            @ torch.tensor(
                [[LUT.reshape(4, 2)[TABLE_INDICES[i // 2, j], i % 2] for j in range(4)] for i in range(4)]
            ).float(),
            x @ dense([1, 2, 3, 4, 5, 6, 7]),
        ),
        lambda: values(3, 4),
        roundings=2,
    ),
    MilCase(
        "16-bit weights under fp32 arithmetic",
        frozenset({"constexpr_cast"}),
        lambda t, x: mb.matmul(
            x=mb.cast(x=x, dtype="fp32"), y=mb.constexpr_cast(source_val=HALF_WEIGHT, output_dtype="fp32")
        ),
        lambda x: x @ torch.tensor(HALF_WEIGHT).float(),
        lambda: (values(3, 4),),
    ),
    *mode_cases(),
]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_operation_agrees_with_torch(case: MilCase, precision: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    args = case.args()
    stored = [a.half() if precision == "fp16" and a.is_floating_point() else a for a in args]
    number = np.float16 if precision == "fp16" else np.float32
    package = save_mil(lambda *x: case.build(number, *x), stored, tmp_path / "block.mlpackage")
    assert case.ops <= op_types(package), f"missing {sorted(case.ops - op_types(package))}"
    expected = case.expected(*args)
    for got, want in zip(
        run_reference(package, args), expected if isinstance(expected, tuple) else (expected,), strict=True
    ):
        assert_close(got, want, precision, case.roundings)


def test_every_operation_of_the_table_has_a_case() -> None:
    tested = frozenset().union(*(c.ops for c in CASES), *(c.ops for c in torch_ops.CASES))
    assert tested == ARITHMETIC.keys() | MOVEMENT.keys()
