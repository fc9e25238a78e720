"""What is written out for Core ML, against PyTorch: each formula as a program, and groups of them as artifacts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.coreml_artifact import legalized, on_reference, tensors_in
from tm_export.exporters.reference.replay import replay


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X, Y, IMAGE = drawn(1, 2, 5, 6), drawn(2, 2, 5, 6), drawn(3, 1, 4, 9, 11)
INTEGERS = torch.tensor([[7, -7, 5, -5, 0, 3], [2, -3, 9, -9, 1, -1]])
DIVISORS = torch.tensor([[3, 3, -2, -2, 4, -5], [1, 2, -4, 4, 3, 7]])
LARGE = INTEGERS * 119_304_647 + 16_777_217  # beyond what 24 bits hold, within 32
GRID = drawn(10, 1, 5, 6, 2) * 0.8
PLACES = torch.tensor([[[0] * 6, [4] * 6, [0] * 6]] * 2)


def scatter_sums(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    rows = torch.tensor([0, -1, 0])
    return (
        x.index_add(1, torch.tensor([0, 2, 2]), y[:, :3], alpha=0.5),
        torch.index_put(x, (torch.tensor([0, 1, 0]), rows), y[0, :3], accumulate=True),
    )


FLOATS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "scaled sums": lambda x, y: (torch.add(x, y, alpha=0.3), torch.sub(x, y, alpha=2), torch.rsub(x, y, alpha=3)),
    "rounded": lambda x, y: (x.trunc(), (3 * x).frac(), x.round(decimals=1), torch.fmod(x, y), torch.fmod(x, -0.7)),
    "quotients by integers": lambda x, y: (
        *(torch.div(x, (2 * y).int().abs() + 1, rounding_mode=mode) for mode in ("floor", "trunc")),
        x // ((2 * y).int().abs() + 1),
        torch.ops.aten.div.Scalar_mode(x, -3, rounding_mode="floor"),
    ),
    "truth values compared": lambda x, y: (
        torch.maximum(x > 0, y > 0),
        torch.minimum(x > 0, y > 0),
        (x > 0) > (y > 0),
        (x > 0) <= True,
    ),
    "quotients": lambda x, y: (x // y, torch.div(x, y, rounding_mode="trunc"), x % y, x // 0.5),
    "functions": lambda x, y: (torch.hypot(x, y), torch.erfc(x), torch.copysign(x, y), torch.logaddexp(x, y)),
    "logarithms": lambda x, y: (
        *(f((x > 0) * x) for f in (torch.log, torch.log2, torch.log10)),
        x.abs().log2(),
        torch.xlogy(x.abs(), y.abs()),
        x.sigmoid().logit(1e-3),
        1 / x,
    ),
    "infinities": lambda x, y: (torch.isinf(x / (y > 0)), torch.isinf(x)),
    "small probabilities": lambda x, y: ((40 * x).log_softmax(-1), (40 * y).log_softmax(1), x[0].log_softmax(0)),
    "side by side": lambda x, y: (torch.cat([x, x, x[:, :1]], 1), torch.cat([y[:, :1], y], 1), torch.stack([x, x])),
    "leaky lines": lambda x, y: (F.prelu(x, y[0, :, 0]), F.prelu(x[0], y[0, 0, :1]), F.prelu(x[0], y[0, 0])),
    "single numbers": lambda x, y: (x.sum().abs().log(), y.sum().asinh(), (x.mean() > 0).float().log()),
    "angles": lambda x, y: (torch.atan2(x, y), torch.atan2(x, 0 * y), x.sinc(), x.asinh(), (x.abs() + 1).acosh()),
    "larger, NaN beside": lambda x, y: (torch.fmax(x, y.log()), torch.fmin(x, y.log())),
    "softplus cut off": lambda x, y: (F.softplus(x, 2.0, 1.0), F.softplus(y), F.hardswish(3 * x)),
    "products": lambda x, y: (x.prod(-1), x.prod(), y.prod(1, keepdim=True), x.cumprod(1), y.logcumsumexp(-1)),
    "running sums": lambda x, y: (x.cumsum(-2), (x > 0).cumsum(0), y.cumsum(-3)),
    "best of all": lambda x, y: (x.argmax(), y.argmin(), x.argmax(keepdim=True), (x > 0).int().argmax(-1)),
    "spreads": lambda x, y: (x.std(), y.var(), x.std(-1), *torch.var_mean(y, (0, 1)), x.var((0, 2), correction=2)),
    "norms": lambda x, y: (F.rms_norm(x, (6,), y[0, 0]), F.rms_norm(x, (5, 6)), F.layer_norm(x, (5, 6), y[0], y[1])),
    "groups": lambda x, y: (F.group_norm(x, 5, y[0, :, 0], y[0, :, 1]), F.group_norm(y, 1)),
    "windows": lambda x, y: (x.unfold(-1, 3, 2), y.unfold(1, 2, 1)),
    "choices": lambda x, y: (torch.where(x.sum() > 0, x.mean(), y.std()), torch.where(x > 0, 1, 0), x.roll(3)),
    "clamps": lambda x, y: (x.clamp(y, y + 1), x.clamp(min=y), x.clamp(max=y)),
    "sums by index": scatter_sums,
    "truth values": lambda x, y: (
        (x > 0).gather(1, PLACES),
        (y > 0).flip(1),
        (x > 0).index_select(1, PLACES[0, :, 0]),
        torch.where(x > 1, x > 0, y < -1),
        F.pad(x > 0, (1, 1)),
        (x > 1).sort(-1).values,
        x.bool().all(-1),
        x.round().any(1),
    ),
    "contractions": lambda x, y: (torch.einsum("bnc,c->bn", x, y[0, 0]), torch.einsum("bij,bkj->bikj", x, y)),
    "shared heads": lambda x, y: F.scaled_dot_product_attention(
        x.expand(1, 2, 5, 6).repeat(1, 2, 1, 1), y[None], y[None] * 2, enable_gqa=True
    ),
    "vectors": lambda x, y: (x @ y[0, 0], x[0, 0] @ y.transpose(1, 2), x[0] @ y[0, 0], x[0, 0] @ y[0, 1]),
    "added products": lambda x, y: (
        torch.addmv(x[0, :, 0], y[0], x[0, 0], beta=0.5, alpha=2),
        torch.addmm(x[0, :, :5], x[0], y[0].T, beta=0.5, alpha=2),
        torch.baddbmm(x[..., :5], x, y.transpose(1, 2), beta=0, alpha=2),
    ),
    "losses": lambda x, y: (F.mse_loss(x, y), F.mse_loss(x, y, reduction="none"), F.mse_loss(x, y, reduction="sum")),
}

INTEGER: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "quotients": lambda a, b: (a // b, a % b, torch.div(a, b, rounding_mode="trunc"), torch.fmod(a, b), a / b),
    "by numbers": lambda a, b: (a // 3, a % 3, a // -3, a % -3, torch.fmod(a, -3), b // 2),
    "bits": lambda a, b: (a & b, a | b, a ^ b, ~a, a & 3, b | 4, a ^ 1),
    "shifts": lambda a, b: ((a % 1024) << 2, a >> 1, a >> b.abs(), b << (b.abs() + 1)),
    "sums": lambda a, b: (
        b.sum(-1),
        b.prod(-1),
        b.cumsum(-2),
        torch.add(a % 99, b, alpha=3),
        a.any(-1),
        (b - 3).all(-1),
    ),
    "moves": lambda a, b: (F.pad(a, (1, 2), value=7), a.clamp(b, b + 2), a.sort().values, a.topk(2).values, a.max()),
}

IMAGES: dict[str, Callable[[Tensor], Any]] = {
    "bicubic": lambda x: (
        F.interpolate(x, (5, 7), mode="bicubic"),
        F.interpolate(x, scale_factor=1.7, mode="bilinear"),
    ),
    "antialias": lambda x: F.interpolate(x, (5, 7), mode="bilinear", antialias=True),
    "nearest": lambda x: (F.interpolate(x, (4, 7)), F.interpolate(x, scale_factor=1.7, mode="nearest-exact")),
    "corners": lambda x: F.interpolate(x, (13, 20), mode="bicubic", align_corners=True),
    "lines": lambda x: (F.interpolate(x[0], 7, mode="linear"), F.interpolate(x[0], 17)),
    "volumes": lambda x: (F.interpolate(x[None], (2, 5, 13), mode="trilinear"), F.adaptive_avg_pool3d(x, (2, 3, 5))),
    "pads": lambda x: (
        F.pad(x, (2, 1, 1, 3), mode="circular"),
        F.pad(x, (1, -2, 0, 1)),
        F.pad(x, (1,) * 6, mode="replicate"),
    ),
    "pools": lambda x: (
        F.max_pool2d(x, 3),
        F.max_pool2d(x, 3, 1, 1, dilation=2),
        F.avg_pool2d(x, 2, divisor_override=3),
    ),
    "last windows": lambda x: (
        F.max_pool2d(x, 2, ceil_mode=True),
        F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
        F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
    ),
    "samples": lambda x: (
        F.grid_sample(x, GRID, align_corners=False),
        F.grid_sample(x, GRID, "nearest", "border", align_corners=True),
        F.grid_sample(x, GRID, padding_mode="reflection", align_corners=False),
    ),
    "folds": lambda x: F.fold(F.unfold(x, 2, stride=1, padding=1), (9, 11), 2, padding=1),
}

FORMULAS = [
    *((f"floats: {name}", f, (X, Y), (drawn(4, 2, 5, 6), drawn(5, 2, 5, 6))) for name, f in FLOATS.items()),
    *((f"integers: {name}", f, (INTEGERS, DIVISORS), (LARGE, DIVISORS)) for name, f in INTEGER.items()),
    *((f"images: {name}", f, (IMAGE,), (drawn(6, 1, 4, 9, 11),)) for name, f in IMAGES.items()),
]


def assert_same(made: list[Tensor], wanted: list[Tensor]) -> None:
    for result, reference in zip(made, wanted, strict=True):
        if reference.dtype.is_floating_point:
            assert torch.allclose(result.reshape(reference.shape), reference, rtol=1e-4, atol=1e-5, equal_nan=True)
        else:
            assert torch.equal(result.reshape(reference.shape).to(torch.int64), reference.to(torch.int64))


@pytest.mark.parametrize(("function", "example", "fresh"), [f[1:] for f in FORMULAS], ids=[f[0] for f in FORMULAS])
def test_a_formula_computes_what_the_operator_does(
    function: Callable[..., Any], example: tuple[Tensor, ...], fresh: tuple[Tensor, ...]
) -> None:
    program = legalized(function, example)
    for inputs in (example, fresh):
        assert_same(list(replay(program, inputs).outputs), tensors_in(function(*inputs)))


def all_of(functions: dict[str, Callable[..., Any]]) -> Callable[..., Any]:
    return lambda *inputs: [tensors_in(function(*inputs)) for function in functions.values()]


@pytest.mark.parametrize(
    ("functions", "example", "fresh"),
    [
        (FLOATS, (X, Y), (drawn(7, 2, 5, 6), drawn(8, 2, 5, 6))),
        (INTEGER, (INTEGERS, DIVISORS), (LARGE, DIVISORS)),
        (IMAGES, (IMAGE,), (drawn(9, 1, 4, 9, 11),)),
    ],
    ids=["floats", "integers", "images"],
)
def test_the_artifact_computes_what_pytorch_does(
    functions: dict[str, Callable[..., Any]], example: tuple[Tensor, ...], fresh: tuple[Tensor, ...], tmp_path: Path
) -> None:
    for made, inputs in zip(
        on_reference(all_of(functions), example, fresh, folder=tmp_path), (example, fresh), strict=True
    ):
        assert_same(made, tensors_in(all_of(functions)(*inputs)))
