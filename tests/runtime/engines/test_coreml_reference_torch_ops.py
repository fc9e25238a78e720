"""Each operation that PyTorch's front end emits: saved, read back, evaluated, compared with PyTorch eager."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.coreml_programs import FunctionModule, assert_close, op_types, run_reference, save_torch


@dataclass(frozen=True)
class TorchCase:
    """A torch function whose conversion holds `ops`; `roundings` as in `assert_close`."""

    name: str
    ops: frozenset[str]
    function: Callable[..., Any]
    args: Callable[[], tuple[Tensor, ...]]
    roundings: int = 1


def values(*shape: int, low: float = -3.0, high: float = 3.0) -> Tensor:
    """Random values that fp16 holds exactly: what differs is then the operation's doing."""
    return (torch.rand(shape) * (high - low) + low).half().float()


def distinct(*shape: int) -> Tensor:
    """Values without ties."""
    return (torch.randperm(torch.Size(shape).numel()).reshape(shape) - 3).float()


def integers(*shape: int, low: int = -9, high: int = 9) -> Tensor:
    return torch.randint(low, high, shape, dtype=torch.int32)


def case(
    name: str, ops: str, function: Callable[..., Any], *args: Callable[[], Tensor], roundings: int = 1
) -> TorchCase:
    return TorchCase(name, frozenset(ops.split()), function, lambda: tuple(a() for a in args), roundings)


def half_exact(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.data = (parameter.data + 0.1).half().float()
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.copy_((torch.rand_like(buffer) + 0.5).half().float())
    return module.eval().requires_grad_(False)


def x234() -> Tensor:
    return values(2, 3, 4)


def images() -> Tensor:
    return values(2, 4, 6, 5)


def scatter_index() -> Tensor:
    return torch.tensor([[0, 2, 2, 5], [1, 1, 4, 0]], dtype=torch.int32)


torch.manual_seed(0)
_GRID_BHWC = torch.stack(torch.meshgrid(torch.linspace(-1.2, 1.1, 4), torch.linspace(-0.9, 1.3, 5), indexing="ij"), -1)[
    None
]
"""Coordinates, some beyond the edges."""

CASES = [
    case(
        "unary",
        "abs acos asin atan atanh ceil cos cosh erf exp exp2 floor sign sin sinh sqrt tan tanh round",
        lambda x, u: (
            *(f(x) for f in (torch.abs, torch.ceil, torch.floor, torch.sign, torch.round)),
            *(f(x) for f in (torch.cos, torch.sin, torch.cosh, torch.sinh, torch.tanh, torch.atan)),
            *(f(x) for f in (torch.erf, torch.exp, torch.exp2)),
            *(f(u) for f in (torch.acos, torch.asin, torch.atanh, torch.tan)),
            torch.sqrt(u.abs()),
        ),
        x234,
        lambda: values(2, 3, 4, low=-0.9, high=0.9),
    ),
    case(
        "log-rsqrt",
        "log rsqrt",
        lambda x: (torch.log(x), torch.rsqrt(x)),
        lambda: values(2, 3, 4, low=0.1),
    ),
    case(
        "activations",
        "relu relu6 sigmoid silu softplus gelu leaky_relu elu clip sigmoid_hard",
        lambda x: (
            F.relu(x),
            F.relu6(x),
            torch.sigmoid(x),
            F.silu(x),
            F.gelu(x),
            F.leaky_relu(x, 0.25),
            F.elu(x, 0.5),
            torch.clamp(x, -1, 0.5),
            F.softplus(x),
            F.hardsigmoid(x),
        ),
        x234,
        roundings=3,
    ),
    case(
        "binary",
        "add sub mul real_div pow maximum minimum floor_div",
        lambda x, y: (
            *(x + y, x - y, x * y, x / y, torch.maximum(x, y), torch.minimum(x, y)),
            torch.pow(y, x),
            torch.remainder(x, y),
            torch.div(x, y, rounding_mode="floor"),
        ),
        x234,
        lambda: values(3, 1, low=0.5),
    ),
    case(
        "integers",
        "add sub mul maximum floor_div abs sign",
        lambda x, y: (
            *(x + y, x - y, x * y, torch.maximum(x, y)),
            *(torch.div(x, y, rounding_mode="floor"), torch.remainder(x, y), x.abs(), x.sign()),
        ),
        lambda: integers(2, 3, 4),
        lambda: integers(4, low=1),
    ),
    case(
        "compare-select",
        "equal not_equal less less_equal greater greater_equal logical_and logical_or logical_xor "
        "logical_not select cast",
        lambda x, y: (
            (x == y).int(),
            (x != y).int(),
            (x < y).float(),
            (x <= y).int(),
            (x >= y).int(),
            torch.logical_and(x > 0, y > 0).int(),
            torch.logical_or(x > 0, y > 0).int(),
            torch.logical_xor(x > 0, y > 0).int(),
            (~(x > y)).int(),
            torch.where(x > y, x, y),
            torch.where(x > y, x, torch.tensor(7.0)),
            x.to(torch.int32),
        ),
        lambda: integers(3, 8, low=-2, high=3).float() / 2,
        lambda: integers(3, 8, low=-2, high=3).float() / 2,
    ),
    case(
        "reduce",
        "reduce_sum reduce_mean reduce_max reduce_min reduce_l2_norm reduce_log_sum_exp reduce_argmax reduce_argmin",
        lambda x: (
            x.sum((0, 2)),
            x.mean(1, keepdim=True),
            x.amax(-1),
            x.amin((0, 1)),
            x.norm(dim=-1),
            x.argmax(1),
            x.argmin(-1, keepdim=True),
            torch.logsumexp(x, 1),
            x.max(-1).indices,
            x.min(1).values,
        ),
        x234,
        roundings=3,
    ),
    case(
        "order",
        "topk argsort cumsum",
        lambda x: (
            *x.topk(3, dim=-1),
            *x.topk(2, dim=0, largest=False),
            x.argsort(dim=1),
            x.argsort(dim=-1, descending=True),
            *x.sort(dim=-1),
            x.cumsum(1),
        ),
        lambda: distinct(3, 4, 5),
    ),
    case(
        "gather",
        "gather_along_axis gather",
        lambda x, i, rows: (
            x.gather(1, i.long()[..., None].expand(-1, -1, 3)),
            x.index_select(1, rows.long()),
            x[:, rows.long().flip(0)],
        ),
        lambda: values(2, 6, 3),
        scatter_index,
        lambda: torch.tensor([5, 0, 3], dtype=torch.int32),
    ),
    case(
        "embedding",
        "gather",
        half_exact(nn.Embedding(7, 5)),
        lambda: integers(2, 3, low=0, high=7),
    ),
    case(
        "gather-nd",
        "gather_nd",
        lambda x, i, j: x[i.long(), j.long()],
        lambda: values(4, 5, 3),
        lambda: integers(6, low=0, high=4),
        lambda: integers(6, low=0, high=5),
    ),
    case(
        "scatter",
        "scatter_along_axis",
        lambda x, i, u: (
            x.scatter_add(1, i.long()[..., None].expand(-1, -1, 3), u),
            x.scatter(1, torch.tensor([[5, 0, 3, 1]])[..., None].expand(2, 4, 3), u),
        ),
        lambda: values(2, 6, 3),
        scatter_index,
        lambda: values(2, 4, 3),
    ),
    case(
        "index-put",
        "scatter_nd",
        lambda x, u: x.index_put((torch.tensor([3, 0]),), u, accumulate=False),
        lambda: values(4, 3),
        lambda: values(2, 3),
    ),
    case(
        "one-hot-matmul",
        "equal cast matmul",
        lambda x, i: (i[..., None, :] == torch.arange(6, dtype=torch.int32)[:, None]).float() @ x,
        lambda: values(2, 4, 3),
        scatter_index,
    ),
    case(
        "slices",
        "slice_by_index concat stack split expand_dims squeeze reshape transpose tile",
        lambda x: (
            x[:, 1::2],
            x[..., -2:],
            x[1],
            x[:, None, 0],
            torch.cat([x[:, ::2], x[:, 1::2]], 1),
            torch.stack([x, -x], 2),
            *x.split([1, 3], dim=1),
            *x.chunk(3, dim=2),
            x.reshape(2, -1).reshape(4, 12),
            x.permute(2, 0, 1),
            x.repeat(1, 2, 1),
            x[:1].expand(3, -1, -1),
            x[:1].squeeze(0),
            x.unsqueeze(1),
            x.flatten(1),
        ),
        lambda: values(2, 4, 6),
    ),
    case("flip", "reverse", lambda x: x.flip([0, 2]), x234),
    case(
        "pad",
        "pad",
        lambda x: (
            F.pad(x, (1, 2, 0, 1)),
            F.pad(x, (2, 1, 1, 0), value=-1.5),
            F.pad(x, (2, 1, 3, 2), mode="reflect"),
            F.pad(x, (2, 1, 1, 3), mode="replicate"),
        ),
        images,
    ),
    case(
        "triangles",
        "band_part",
        lambda x: (x.tril(), x.triu(), x.tril(1), x.triu(-1)),
        lambda: values(2, 5, 4),
    ),
    case(
        "pixels",
        "pixel_shuffle pixel_unshuffle",
        lambda x: (F.pixel_shuffle(x, 2), F.pixel_unshuffle(x[:, :, :, :4], 2)),
        images,
    ),
    case(
        "matmul",
        "matmul",
        lambda x, y: (x @ y.mT, x @ y[0].mT, (x[0] @ y.mT), x.mT @ y[:, :3].repeat(1, 2, 1)[:, :3]),
        lambda: values(2, 3, 4),
        lambda: values(2, 5, 4),
        roundings=2,
    ),
    case("linear", "linear", half_exact(nn.Linear(8, 6)), lambda: values(2, 3, 8)),
    case("linear-no-bias", "linear", half_exact(nn.Linear(8, 6, bias=False)), lambda: values(2, 3, 8)),
    case(
        "einsum",
        "einsum",
        lambda x, y: torch.einsum("nchw,nwhu->nchu", x, y),
        lambda: values(2, 3, 4, 5),
        lambda: values(2, 5, 4, 6),
    ),
    case(
        "attention",
        "scaled_dot_product_attention",
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
        lambda: values(2, 2, 5, 4),
        lambda: values(2, 2, 7, 4),
        lambda: values(2, 2, 7, 6),
        roundings=2,
    ),
    case(
        "attention-masks",
        "scaled_dot_product_attention",
        lambda q, k, v, m: (
            F.scaled_dot_product_attention(q, k, v, attn_mask=m),
            F.scaled_dot_product_attention(q, k, v, attn_mask=m > -2.5),
        ),
        lambda: values(2, 2, 5, 4),
        lambda: values(2, 2, 7, 4),
        lambda: values(2, 2, 7, 4),
        lambda: values(1, 1, 5, 7),
        roundings=2,
    ),
    case("softmax", "softmax", lambda x: (x.softmax(-1), x.softmax(1)), x234),
    case("layer-norm", "layer_norm", half_exact(nn.LayerNorm(8, eps=1e-3)), lambda: values(2, 3, 8)),
    case("group-norm", "reduce_mean", half_exact(nn.GroupNorm(2, 4, eps=1e-3)), images, roundings=8),
    case("batch-norm", "batch_norm", half_exact(nn.BatchNorm2d(4)), images),
    case("instance-norm", "instance_norm", half_exact(nn.InstanceNorm2d(4, affine=True)), images),
    case(
        "rms-norm",
        "reduce_mean rsqrt",
        lambda x: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-3),
        lambda: values(2, 3, 8),
        roundings=4,
    ),
    case("conv1d", "conv", half_exact(nn.Conv1d(4, 6, 3, stride=2, padding=1)), lambda: values(2, 4, 9)),
    case("conv2d-groups", "conv", half_exact(nn.Conv2d(4, 8, 3, dilation=2, padding=2, groups=2)), images),
    case("conv2d-same", "conv", half_exact(nn.Conv2d(4, 3, (4, 3), padding="same")), images),
    case(
        "conv3d",
        "conv",
        half_exact(nn.Conv3d(3, 5, (1, 2, 2), stride=(1, 2, 2))),
        lambda: values(1, 3, 2, 6, 4),
    ),
    case(
        "conv-transpose",
        "conv_transpose crop",
        half_exact(nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)),
        images,
    ),
    case(
        "conv-transpose1d",
        "conv_transpose",
        half_exact(nn.ConvTranspose1d(4, 3, 4, stride=2)),
        lambda: values(1, 4, 5),
    ),
    case(
        "pools",
        "max_pool avg_pool",
        lambda x: (
            F.max_pool2d(x, 2, 2),
            F.max_pool2d(x, 3, 2, padding=1),
            F.avg_pool2d(x, 2, 2),
            F.avg_pool2d(x, 3, 1, padding=1),
            F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False),
        ),
        images,
    ),
    case(
        "resize",
        "upsample_nearest_neighbor upsample_bilinear",
        lambda x: (
            F.interpolate(x, scale_factor=2.0, mode="nearest"),
            F.interpolate(x, scale_factor=2.0, mode="bilinear"),
            F.interpolate(x, size=(9, 11), mode="bilinear", align_corners=True),
        ),
        images,
        roundings=2,
    ),
    case(
        "sampled at coordinates",
        "resample",
        lambda x: (
            F.grid_sample(x, _GRID_BHWC.expand(x.shape[0], -1, -1, -1), align_corners=True),
            F.grid_sample(x, _GRID_BHWC.expand(x.shape[0], -1, -1, -1), padding_mode="border", align_corners=False),
        ),
        images,
        roundings=2,
    ),
    case("full", "fill_like", lambda x: (x + torch.full((3, 1), 2.0), torch.ones_like(x) + x), x234),
]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_operation_agrees_with_eager(case: TorchCase, precision: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = case.function if isinstance(case.function, nn.Module) else FunctionModule(case.function)
    args = case.args()
    package = save_torch(module, args, precision, tmp_path / "block.mlpackage")
    assert case.ops <= op_types(package), f"missing {sorted(case.ops - op_types(package))}"
    expected = module(*args)
    for got, want in zip(
        run_reference(package, args), expected if isinstance(expected, tuple) else (expected,), strict=True
    ):
        assert_close(got, want, precision, case.roundings)
