"""What every program is put into before its merges are recognised computes what PyTorch computes."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.utils._pytree as pytree
from torch import Tensor, nn

from tests.support.programs import Lambda, program_of, run
from tm_export.exporters.capture.normalise import normalise
from tm_export.exporters.capture.normalise.interface import as_artifact, interface_of
from tm_export.exporters.capture.normalise.widths import Widening, widening_of
from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.source.model_source import ComponentSource

N = 6


def _tokens(seed: int) -> Tensor:
    return torch.randn(2, N, 5, generator=torch.Generator().manual_seed(seed))


def _written(x: Tensor, mask: Tensor, value: Any) -> Tensor:
    x = x.clone()
    x[mask] = value
    return x


def _added(x: Tensor, mask: Tensor, value: Tensor) -> Tensor:
    return x.index_put([mask], value, accumulate=True)


def _images_into_text(x: Tensor) -> Tensor:
    mask = (x[..., 0] > 0).unsqueeze(-1).expand_as(x)
    return x.masked_scatter(mask, torch.arange(2.0 * N * 5).reshape(2 * N, 5))


def _diagonal_writes(x: Tensor) -> tuple[Tensor, ...]:
    filled, scaled, lower, square = x.clone(), x.clone(), x.clone(), x[0].clone()
    filled.diagonal(dim1=-2, dim2=-1).fill_(-1)
    scaled.diagonal(1, dim1=1, dim2=2).mul_(3)
    lower.diagonal(-2, dim1=2, dim2=1).zero_()
    return filled, scaled, lower, square.fill_diagonal_(9.0)


def _rotary(x: Tensor) -> Tensor:
    angle = torch.outer(torch.arange(float(N)), torch.tensor([1.0, 0.1]))
    turned = torch.view_as_complex(x[..., :4].contiguous().reshape(2, N, 2, 2)) * torch.polar(torch.ones(N, 2), angle)
    return torch.view_as_real(turned).flatten(2)


def _complex_arithmetic(x: Tensor) -> tuple[Tensor, ...]:
    y, z = torch.complex(x[0], x[1]), torch.polar(torch.ones_like(x[1]), x[0])
    total = (y * z.conj() + 1j * y - 2) / (z * 3)
    parts = total.real, total.imag, total.abs(), (1 - total).angle().cos(), torch.exp(1j * x[0]).imag
    moved = torch.cat([total, y]).sum(0).real, [each.imag for each in total.chunk(2, 0)], (1 / (total + 3)).real
    return *parts, moved[0], *moved[1], moved[2], (total.mT @ y).imag, torch.view_as_real(total * x[1])


ROWS = torch.arange(30.0).reshape(N, 5)
BOUNDS = torch.tensor([-1.0, 0.0, 0.0, 0.5, 1.0])


def _quantiles(x: Tensor) -> list[Tensor]:
    shares = torch.tensor([0.25, 0.9])
    return [
        x.quantile(0.3, dim=1, keepdim=True),
        x.quantile(shares, dim=-1),
        x.quantile(shares, keepdim=True),
        x.quantile(0.5),
        torch.where(x > 1.5, math.nan, x).quantile(0.5, dim=1),
        *(x.quantile(0.35, dim=1, interpolation=each) for each in ("lower", "higher", "nearest", "midpoint")),
    ]


FUNCTIONS: dict[str, Callable[[Tensor], Any]] = {
    "a number where a mask of rows is true": lambda x: _written(x, x.mean(-1) > 0, 1.5),
    "a number where a mask of numbers is true": lambda x: _written(x, x > 0, torch.tensor([3.0])),
    "a row at each place": lambda x: _written(x, x.mean(-1) > 0, torch.arange(5.0)),
    "a list of one row": lambda x: _written(x, x.mean(-1) > 0, torch.arange(5.0)[None]),
    "a mask beside other dimensions": lambda x: _written(x.transpose(0, 1), x.mean((0, 2)) > 0, 2.0),
    "rows in their order": lambda x: _written(
        x, (x[..., 0] > -9) & (torch.arange(N) < 3), torch.arange(30.0).reshape(N, 5)
    ),
    "sums where a mask is true": lambda x: _added(x, x[..., 0] > 0, torch.arange(5.0)),
    "masked scatter by rows": _images_into_text,
    "masked scatter by numbers": lambda x: x.masked_scatter(x > 0, torch.arange(2.0 * N * 5)),
    "diagonals": lambda x: (x.diagonal(1, 0, 2), x[0].diagonal(-2), torch.diag(x[0, 0], 1), torch.trace(x[0])),
    "diagonals of matrices": lambda x: (torch.diag(x[0]), torch.diag(x[0], 2), torch.diag(x[1], -5)),
    "a diagonal beyond the matrix": lambda x: torch.diagonal_scatter(x, x[:, 0, :0], 5, 1, 2),
    "matrices of a diagonal": lambda x: (torch.diag_embed(x), torch.diag_embed(x[0], -1, 0, 1)),
    "writes to diagonals": _diagonal_writes,
    "buckets": lambda x: (torch.bucketize(x.round(), BOUNDS), torch.bucketize(x, BOUNDS, right=True, out_int32=True)),
    "searches": lambda x: (torch.searchsorted(x.sort(-1).values, x), torch.searchsorted(BOUNDS, x, side="right")),
    "a sorter": lambda x: torch.searchsorted(x, x.flip(1), sorter=x.argsort(-1)),
    "k-th values": lambda x: (*x.kthvalue(2, 1), *x.kthvalue(3, -1, keepdim=True)),
    "quantiles": _quantiles,
    "running extremes": lambda x: (*x.cummax(1), *x.round().cummax(-1), *x.cummin(0), *x.round().cummin(2)),
    "running products": lambda x: (
        x.cumprod(-1),
        (3 * x).int().cumprod(1),
        (3 * x).int().cumprod(1, dtype=torch.int32),
        x.logcumsumexp(1),
    ),
    "sums of one": lambda x: (x.sum().cumsum(0), (x.sum() > 0).cumsum(0)),
    "several dtypes": lambda x: (
        torch.cat([x, x.int(), x > 0]),
        (9 * x).sum(1, dtype=torch.int64),
        (9 * x).sum(dtype=torch.int32),
        torch.ops.aten.add.Scalar(x.int(), 2.5),
        torch.select_scatter(x.int(), x[:, 0].round(), 1, 2),
        torch.slice_scatter(x.int(), x[:, :2].round(), 1, 2, 4),
    ),
    "means in another dtype": lambda x: (
        *x.aminmax(),
        (9 * x).int().mean(1, dtype=torch.float32),
        (x > 0).mean(dtype=torch.float32),
        (9 * x).int().softmax(-1, dtype=torch.float32),
        (9 * x).int().log_softmax(0, dtype=torch.float32),
    ),
    "sums of truth values": lambda x: ((x > 0) + (x > 1), 2.5 - (9 * x).int()),
    "extremes of all": lambda x: (x.amax(), x.amin(keepdim=True), *torch.aminmax(x), *torch.aminmax(x, dim=1)),
    "indices that wrap around": lambda x: (
        torch.take_along_dim(x, (9 * x).long(), 1),
        torch.take_along_dim(x, (9 * x).long().abs() % 60),
        torch.take_along_dim(x, x.argsort(1), -1),
    ),
    "functions of integers": lambda x: (
        *(f((9 * x).int().abs() + 1) for f in (torch.log, torch.sqrt, torch.sin, torch.exp, torch.reciprocal)),
        torch.atan2((2 * x).int(), (3 * x).long()),
        torch.ops.aten.copy.default((3 * x).int(), x[:1, :1]),
    ),
    "pools without a stride": lambda x: (
        F.max_pool1d(x, 2),
        F.avg_pool1d(x, 3, ceil_mode=True),
        F.max_pool2d(x[None], (2, 3)),
        F.avg_pool2d(x[None], 2, count_include_pad=False),
        F.max_pool3d(x[None, None], (1, 2, 2)),
    ),
    "whole numbers": lambda x: (
        *(f((9 * x).int()) for f in (torch.round, torch.floor, torch.ceil, torch.trunc, torch.relu)),
        *(f((9 * x).int()) for f in (torch.isnan, torch.isinf, torch.isfinite)),
    ),
    "bounds at infinity": lambda x: (
        x.clamp(-0.5, math.inf),
        (9 * x).int().clamp(-math.inf, 2),
        x.clamp(-math.inf, math.inf),
        (x / (x > 0)).clamp(min=-math.inf, max=1.0).nan_to_num(),
    ),
    "spreads and means": lambda x: (
        *torch.var_mean(x, 1),
        *torch.std_mean(x, (0, 2), correction=0, keepdim=True),
        *torch.var_mean(x),
    ),
    "medians": lambda x: (*x.median(-1), x.median()),
    "not numbers": lambda x: ((x / (x > 0)).nan_to_num(), (x.sign() / (x > 0)).nan_to_num(1.0, 2.0, -3.0)),
    "distances": lambda x: [torch.cdist(x, x.flip(1), p=p) for p in (0.0, 1.0, 2.0, 3.0, math.inf)],
    "rotary positions": _rotary,
    "complex numbers": _complex_arithmetic,
    "constants as outputs": lambda x: (x.sum(), torch.arange(4), torch.ones(3)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_written_out_computes_what_pytorch_does(name: str) -> None:
    module = Lambda(FUNCTIONS[name])
    captured = program_of(module, _tokens(0))
    before = [(node.target, len(node.args), str(node.args)) for node in captured.graph.nodes]
    normal = normalise(captured)
    complex_values = [n for n in normal.graph.nodes if getattr(n.meta.get("val"), "is_complex", bool)()]
    assert not complex_values
    if name != "constants as outputs":
        after = [(node.target, len(node.args), str(node.args)) for node in normal.graph.nodes]
        assert before != after, "something was written out"
    for seed in range(3):
        wanted = pytree.tree_leaves(module(_tokens(seed)))
        for found, expected in zip(run(normal, _tokens(seed)), wanted, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_a_complex_operator_without_a_real_form_is_refused_with_its_line() -> None:
    captured = program_of(lambda x: torch.linalg.eigvals(x[..., :5, :5]).abs(), _tokens(0))
    with pytest.raises(
        ConversionRefused, match=r"no complex numbers, and aten\.linalg_eigvals\.default at \w+\.py:\d+: [^\n]*$"
    ):
        normalise(captured)


class Wide(nn.Module):
    """Computes in a dtype of its own, with a mask of the most negative number that it has."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(5, 5, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.linear(x.to(self.linear.weight.dtype))
        return scores.masked_fill(scores < 0, torch.finfo(scores.dtype).min).softmax(-1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_floats_of_any_width_are_computed_with_in_32_bits(dtype: torch.dtype) -> None:
    module, x = Wide(dtype), _tokens(0)
    program = program_of(module, x)
    weights = 5 * 5 + 5
    assert widening_of(program) == Widening((str(dtype)[6:],), weights * dtype.itemsize, weights * 4)
    normal = normalise(program)
    assert widening_of(normal) is None
    dtypes = {node.meta["val"].dtype for node in normal.graph.nodes if isinstance(node.meta.get("val"), Tensor)}
    assert dtypes == {torch.float32, torch.bool}
    (found,) = run(normal, x)
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, module(x).float(), rtol=0, atol=4 * max(torch.finfo(dtype).eps, 1e-7))


class Remembering(nn.Module):
    """Writes a cache by index, counts its calls in a buffer that it assigns, and writes into its input."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cache", torch.zeros(4, 5))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scale", torch.full((5,), 2.0))

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        self.cache.index_copy_(0, place, x[:1] * self.scale)
        self.calls = self.calls + 1
        x.mul_(2)
        return self.cache.sum(0) + self.calls


def _component(module: nn.Module, *inputs: Tensor, names: tuple[str, ...]) -> ComponentSource:
    source = ComponentSource("model", {"full": lambda: module}, inputs, names)
    interface = interface_of({"full": program_of(module, *inputs)}, inputs)
    return source if interface.is_plain else as_artifact(source, interface)


def test_what_a_module_writes_goes_in_and_comes_out() -> None:
    source = _component(Remembering(), torch.ones(3, 5), torch.tensor([1]), names=("x", "place"))
    assert source.input_names == ("x", "place", "cache", "calls")
    assert source.output_names == ("output_0", "cache_out", "calls_out", "x_out")
    kept = [(each.input, each.output) for each in source.state]
    assert kept == [("cache", "cache_out"), ("calls", "calls_out"), ("x", "x_out")]
    program = normalise(program_of(source.variants["full"](), *source.example_inputs))
    cache, calls = source.example_inputs[2:]
    alone = Remembering()
    for place in (1, 3, 1):
        x = torch.full((3, 5), float(place))
        found, cache, calls, doubled = run(program, x, torch.tensor([place]), cache, calls)
        given = x.clone()
        assert torch.equal(found, alone(given, torch.tensor([place])))
        assert torch.equal(cache, alone.cache) and torch.equal(calls, alone.calls) and torch.equal(doubled, given)


def test_a_module_that_writes_nothing_is_left_as_it_is() -> None:
    module = nn.Linear(5, 5)
    source = _component(module, torch.ones(3, 5), names=("input",))
    assert source.variants["full"]() is module and not source.state


def test_floats_and_complex_numbers_cross_the_border_in_32_bits() -> None:
    module = Lambda(lambda x, z: (x * 2, z * x))
    x, z = torch.randn(3, dtype=torch.float64), torch.randn(3, dtype=torch.complex64)
    source = _component(module, x, z, names=("x", "z"))
    assert [(value.dtype, tuple(value.shape)) for value in source.example_inputs] == [
        (torch.float32, (3,)),
        (torch.float32, (3, 2)),
    ]
    twice, product = source.variants["full"]()(*source.example_inputs)
    torch.testing.assert_close(twice, (x * 2).float())
    torch.testing.assert_close(product, torch.view_as_real(z * x.float()))


@pytest.mark.parametrize("name", ["input", "float", "type"])
def test_an_input_has_a_name_that_a_graph_can_keep(name: str) -> None:
    scope: dict[str, Any] = {"nn": nn}
    exec(f"class M(nn.Module):\n    def forward(self, {name}): return {name} + 1", scope)
    normal = normalise(program_of(scope["M"](), torch.ones(2)))
    names = [node.name for node in normal.graph.nodes if node.op == "placeholder"]
    assert names == [f"given_{name}"]
    assert torch.equal(run(normal, torch.ones(2))[0], torch.full((2,), 2.0))
