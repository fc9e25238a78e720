"""Each rule of the XNNPACK target and those of GELU: the same numbers, in operators that the delegate takes."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import ExportedProgram

from tests.support.programs import nodes_of, operators, program_of, refusals, run
from tm_export.exporters.graph.constants import fold_weights
from tm_export.exporters.graph.nodes import slice_of
from tm_export.exporters.graph.rule import Rule, apply_rules
from tm_export.exporters.targets.executorch.xnnpack.passes import legalize_for_xnnpack
from tm_export.exporters.targets.executorch.xnnpack.rules.batch_norm import BatchNormByFactor, ConvThenBatchNorm
from tm_export.exporters.targets.executorch.xnnpack.rules.chunked_mlp import ChunkedMlp
from tm_export.exporters.targets.executorch.xnnpack.rules.fill import FillByMask
from tm_export.exporters.targets.executorch.xnnpack.rules.interleave import StackBySelection
from tm_export.exporters.targets.executorch.xnnpack.rules.layer_norm import LayerNormByProducts, LinearAfterLayerNorm
from tm_export.exporters.targets.executorch.xnnpack.rules.products import AttentionByBmm, MatmulByBmm
from tm_export.exporters.targets.executorch.xnnpack.rules.reductions import ReductionByProduct
from tm_export.exporters.targets.executorch.xnnpack.rules.split_linear import SplitLinear, UnbindLinear
from tm_export.exporters.targets.executorch.xnnpack.rules.strided_slice import StridedSlice
from tm_export.exporters.targets.executorch.xnnpack.rules.views import SelectBySlice, UnbindBySlices, ViewByReshape
from tm_export.exporters.targets.shared.gelu import GeluBySigmoid, GeluByTanh

G = torch.Generator().manual_seed(0)
X = torch.randn(2, 6, 8, generator=G)


def rewritten(
    function: Callable[..., object], *inputs: Tensor, rules: tuple[Rule[Any], ...]
) -> tuple[ExportedProgram, list[str]]:
    """The program after the rules, having checked its numbers; and the reasons of rules that did not fire."""
    before = program_of(function, *inputs)
    after, firings = apply_rules(before, rules)
    for got, wanted in zip(run(after, *inputs), run(before, *inputs), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=2e-6)
    return after, refusals(firings)


def randomised(module: nn.Module) -> nn.Module:
    """Weights that differ from 0 and 1, so that a lost gain or shift shows."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=G))
    return module.eval()


class TestGelu:
    @pytest.mark.parametrize("rule", [GeluByTanh(), GeluBySigmoid()], ids=["tanh", "sigmoid"])
    def test_the_approximation_is_written_out(self, rule: Rule[Any]) -> None:
        x = torch.linspace(-8, 8, 1001)
        program, _ = rewritten(lambda x: F.gelu(x, approximate="tanh"), x, rules=(rule,))
        assert "gelu" not in operators(program)
        exact = F.gelu(x)
        assert (run(program, x)[0] - exact).abs().max() > 1e-4  # it is not the exact function

    @pytest.mark.parametrize("rule", [GeluByTanh(), GeluBySigmoid()], ids=["tanh", "sigmoid"])
    def test_the_exact_function_is_left_alone(self, rule: Rule[Any]) -> None:
        program, reasons = rewritten(lambda x: F.gelu(x), X, rules=(rule,))
        assert reasons == ["exact GELU"]
        assert operators(program) == {"gelu": 1}


class TestBatchNorm:
    @staticmethod
    def norm(channels: int, of: type[nn.Module] = nn.BatchNorm2d, **options: bool) -> nn.Module:
        norm = randomised(of(channels, eps=1e-2, **options))
        norm.running_mean.copy_(torch.randn(channels, generator=G))  # type: ignore[operator,union-attr]
        norm.running_var.copy_(torch.rand(channels, generator=G) + 0.1)  # type: ignore[operator,union-attr]
        return norm

    @pytest.mark.parametrize("affine", [False, True])
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("conv", [nn.Conv1d, nn.Conv2d])
    def test_folds_into_a_convolution(self, conv: type[nn.Conv1d | nn.Conv2d], bias: bool, affine: bool) -> None:
        one = conv is nn.Conv1d
        module = nn.Sequential(
            randomised(conv(4, 6, 3, stride=2, groups=2, bias=bias)),
            self.norm(6, nn.BatchNorm1d if one else nn.BatchNorm2d, affine=affine),
        )
        x = torch.randn(2, 4, 9, *[] if one else [7], generator=G)
        program, _ = rewritten(module, x, rules=(ConvThenBatchNorm(), BatchNormByFactor()))
        program, _ = fold_weights(program)
        assert operators(program) == {"conv1d" if one else "conv2d": 1}

    def test_stays_beside_a_convolution_that_others_read(self) -> None:
        conv, norm = randomised(nn.Conv2d(3, 4, 3)), self.norm(4)

        def both(x: Tensor) -> tuple[Tensor, Tensor]:
            y = conv(x)
            return y, norm(y)

        program, reasons = rewritten(
            both, torch.randn(1, 3, 5, 5, generator=G), rules=(ConvThenBatchNorm(), BatchNormByFactor())
        )
        assert reasons == ["others read the convolution too"]
        assert operators(program)["_native_batch_norm_legit_no_training"] == 0

    def test_of_rows_without_positions(self) -> None:
        rewritten(self.norm(8, nn.BatchNorm1d), X[:, 0], rules=(BatchNormByFactor(),))


class TestLayerNorm:
    @pytest.mark.parametrize("affine", [False, True])
    def test_becomes_products(self, affine: bool) -> None:
        norm = randomised(nn.LayerNorm(8, elementwise_affine=affine, eps=1e-3))
        program, _ = rewritten(norm, X, rules=(LayerNormByProducts(),))
        assert operators(program)["layer_norm"] == 0
        assert operators(program)["linear"] == 2

    def test_without_shift(self) -> None:
        rewritten(randomised(nn.LayerNorm(8, bias=False)), X, rules=(LayerNormByProducts(),))

    def test_of_large_numbers_far_from_zero(self) -> None:
        """The mean goes first: squares of what is left, not a difference of squares."""
        x = X + 300
        before = program_of(nn.LayerNorm(8), x)
        after, _ = apply_rules(before, (LayerNormByProducts(),))
        torch.testing.assert_close(run(after, x)[0], run(before, x)[0], rtol=1e-3, atol=1e-3)

    def test_over_several_dimensions_is_refused(self) -> None:
        _, reasons = rewritten(nn.LayerNorm((6, 8)), X, rules=(LayerNormByProducts(),))
        assert reasons == ["normalises over several dimensions"]

    @pytest.mark.parametrize("norm_bias", [False, True])
    @pytest.mark.parametrize("linear_bias", [False, True])
    def test_gain_and_shift_go_into_the_next_linear_layer(self, norm_bias: bool, linear_bias: bool) -> None:
        block = randomised(nn.Sequential(nn.LayerNorm(8, bias=norm_bias), nn.Linear(8, 5, bias=linear_bias)))
        program, reasons = rewritten(block, X, rules=(LinearAfterLayerNorm(), LayerNormByProducts()))
        assert reasons == []
        legal = legalize_for_xnnpack(program_of(block, X)).program
        torch.testing.assert_close(run(legal, X)[0], block(X), rtol=1e-5, atol=1e-5)
        # mean, variance and the layer itself; nothing multiplied by a gain, nothing added for a shift but eps
        assert operators(legal) == {"linear": 3, "sub": 1, "mul": 2, "rsqrt": 1, "add": 1}
        assert operators(program)["layer_norm"] == 0

    def test_not_if_others_read_the_norm(self) -> None:
        class Residual(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.norm, self.linear = nn.LayerNorm(8), nn.Linear(8, 8)

            def forward(self, x: Tensor) -> Tensor:
                y = self.norm(x)
                return y + self.linear(y)

        _, reasons = rewritten(randomised(Residual()), X, rules=(LinearAfterLayerNorm(), LayerNormByProducts()))
        assert reasons == ["others read the layer norm too"]

    def test_not_without_an_affine_part(self) -> None:
        block = nn.Sequential(nn.LayerNorm(8, elementwise_affine=False), nn.Linear(8, 5))
        _, reasons = rewritten(block, X, rules=(LinearAfterLayerNorm(),))
        assert reasons == ["the layer norm has no affine part"]


class TestProducts:
    @pytest.mark.parametrize(
        ("a", "b"), [((4, 3), (3, 5)), ((2, 4, 3), (2, 3, 5)), ((2, 3, 4, 3), (2, 3, 3, 5))], ids=["2", "3", "4"]
    )
    def test_matmul_becomes_bmm(self, a: tuple[int, ...], b: tuple[int, ...]) -> None:
        left, right = torch.randn(a, generator=G), torch.randn(b, generator=G)
        program, reasons = rewritten(lambda x, y: x @ y, left, right, rules=(MatmulByBmm(),))
        assert reasons == []
        assert operators(program)["bmm"] == 1 and operators(program)["matmul"] == operators(program)["mm"] == 0

    @pytest.mark.parametrize(
        ("b", "reason"), [((8,), "a side is a vector"), ((8, 3), "the batch dimensions differ")], ids=["vector", "wide"]
    )
    def test_other_products_are_refused(self, b: tuple[int, ...], reason: str) -> None:
        _, reasons = rewritten(lambda x, y: x @ y, X, torch.randn(b, generator=G), rules=(MatmulByBmm(),))
        assert reasons == [reason]

    Q, K, V = (torch.randn(2, 3, n, 4, generator=G) for n in (5, 6, 6))
    BIAS = torch.randn(2, 1, 1, 6, generator=G)

    @pytest.mark.parametrize(
        "attend",
        [
            lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v),
            lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, scale=0.3),
            lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m),
            lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m, 0.0, False, scale=2.0),
            lambda q, k, v, m: F.scaled_dot_product_attention(q[:, 0], k[:, 0], v[:, 0]),
        ],
        ids=["plain", "scaled", "mask", "mask and scale", "three dimensions"],
    )
    def test_attention_becomes_bmm_and_softmax(self, attend: Callable[..., Tensor]) -> None:
        program, reasons = rewritten(attend, self.Q, self.K, self.V, self.BIAS, rules=(AttentionByBmm(),))
        assert reasons == []
        found = operators(program)
        assert (found["bmm"], found["softmax"], found["scaled_dot_product_attention"]) == (2, 1, 0)

    @pytest.mark.parametrize(
        ("attend", "reason"),
        [
            (lambda q, k, v, m: F.scaled_dot_product_attention(k, k, v, is_causal=True), "causal, grouped"),
            (lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m > -2), "the mask is not one that"),
            (
                lambda q, k, v, m: F.scaled_dot_product_attention(q, k[:, :1], v[:, :1], enable_gqa=True),
                "causal, grouped",
            ),
            (lambda q, k, v, m: F.scaled_dot_product_attention(q, k[:1], v[:1]), "the batch dimensions differ"),
        ],
        ids=["causal", "boolean mask", "grouped heads", "broadcast"],
    )
    def test_other_attention_is_refused(self, attend: Callable[..., Tensor], reason: str) -> None:
        _, reasons = rewritten(attend, self.Q, self.K, self.V, self.BIAS, rules=(AttentionByBmm(),))
        assert len(reasons) == 1 and reasons[0].startswith(reason)


REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean of the last": lambda x: x.mean(-1),
    "mean of the last, kept": lambda x: x.mean(-1, keepdim=True),
    "mean over heads": lambda x: x.mean(1),
    "mean over rows": lambda x: x.mean(dim=2),
    "mean over rows, kept": lambda x: x.mean(dim=-2, keepdim=True),
    "sum of the last": lambda x: x.sum(-1),
    "sum over heads, kept": lambda x: x.sum(1, keepdim=True),
    "norm": lambda x: x.norm(dim=-1, keepdim=True),
    "linalg norm": lambda x: torch.linalg.vector_norm(x, dim=-1),
    "norm of rows": lambda x: x.norm(dim=2),
}


class TestReductions:
    HEADS = torch.randn(2, 3, 5, 4, generator=G)

    @pytest.mark.parametrize("name", REDUCTIONS)
    def test_becomes_products_or_additions(self, name: str) -> None:
        program, reasons = rewritten(REDUCTIONS[name], self.HEADS, rules=(ReductionByProduct(),))
        assert reasons == []
        found = operators(program)
        assert {"linear", "bmm", "add"} & set(found)
        assert not {"mean", "sum", "linalg_vector_norm"} & set(found)

    @pytest.mark.parametrize(
        ("reduce", "reason"),
        [
            (lambda x: x.mean((1, 2)), "not along one dimension"),
            (lambda x: torch.linalg.vector_norm(x, 1, dim=-1), "not the Euclidean norm"),
            (lambda x: x.norm(p=math.inf, dim=-1), "not the Euclidean norm"),
            (lambda x: (x > 0).sum(-1), "not along one dimension"),
            (lambda x: x.mean(0), "a dimension far in front"),
            (lambda x: x.repeat(1, 30, 1, 1).mean(1), "too many to add one by one"),
        ],
        ids=["two dimensions", "sum of magnitudes", "maximum", "integers", "the batch", "many"],
    )
    def test_others_are_refused(self, reduce: Callable[[Tensor], Tensor], reason: str) -> None:
        _, reasons = rewritten(reduce, self.HEADS, rules=(ReductionByProduct(),))
        assert reasons == [reason]


class Projection(nn.Module):
    """A linear layer, and what becomes of its output."""

    def __init__(self, then: Callable[[Tensor], object], bias: bool = True) -> None:
        super().__init__()
        self.linear, self.then = nn.Linear(8, 24, bias=bias), then

    def forward(self, x: Tensor) -> object:
        return self.then(self.linear(x))


def heads(y: Tensor) -> tuple[Tensor, ...]:
    return tuple(y.reshape(2, 6, 3, 2, 4).permute(2, 0, 3, 1, 4))


SPLITS: dict[str, Callable[[Tensor], object]] = {
    "chunk": lambda y: y.chunk(3, dim=-1),
    "split": lambda y: y.split(8, 2),
    "split with sizes": lambda y: y.split([4, 8, 12], dim=-1),
    "unbind": lambda y: y.reshape(2, 6, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0),
    "unpacking": heads,
    "counted from the end": lambda y: y.reshape(2, 6, 3, 2, 4).permute(-3, 0, -2, 1, -1).unbind(0),
    "heads last": lambda y: y.view(2, 6, 3, 8).permute(2, 0, 1, 3).unbind(),
}


class TestSplitLinear:
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("name", SPLITS)
    def test_each_part_gets_a_layer(self, name: str, bias: bool) -> None:
        program, reasons = rewritten(Projection(SPLITS[name], bias), X, rules=(SplitLinear(), UnbindLinear()))
        assert reasons == []
        assert operators(program)["linear"] == 3
        assert not {"split", "split_with_sizes", "chunk", "unbind"} & set(operators(program))

    @pytest.mark.parametrize(
        ("then", "reason"),
        [
            (lambda y: (*y.chunk(3, -1), y.sum()), "the input is no linear layer of its own"),
            (lambda y: y.relu().chunk(3, -1), "the input is no linear layer of its own"),
            (lambda y: y.chunk(3, 1), "not over the channels"),
            (lambda y: y.reshape(2, 6, 8, 3).permute(3, 0, 1, 2).unbind(0), "the parts are not the outermost"),
            (lambda y: y.unbind(1), "not the unbinding of a permutation's first dimension"),
            (lambda y: y.relu().reshape(2, 6, 3, 8).permute(2, 0, 1, 3).unbind(0), "no linear layer behind"),
            (lambda y: (*y.reshape(2, 6, 3, 8).permute(2, 0, 1, 3).unbind(0), y.sum()), "others read the layer too"),
        ],
        ids=["read twice", "behind relu", "rows", "innermost", "no permutation", "relu behind", "read twice, unbound"],
    )
    def test_others_are_refused(self, then: Callable[[Tensor], object], reason: str) -> None:
        program, reasons = rewritten(Projection(then), X, rules=(SplitLinear(), UnbindLinear()))
        assert len(reasons) == 1 and reasons[0].startswith(reason)
        assert operators(program)["linear"] == 1


def filled(position: int, number: float, dim: int = 1) -> Callable[[Tensor], Tensor]:
    def function(x: Tensor) -> Tensor:
        x = x * 1
        x.select(dim, position).fill_(number)
        return x

    return function


def assigned(x: Tensor) -> Tensor:
    x = x * 1
    x[:, 0] = -torch.inf
    return x


def filled_over_infinity(x: Tensor) -> Tensor:
    x = x * 1
    x[:, :, 0] = -torch.inf
    x[:, 0] = 0.0
    return x


class TestFill:
    @pytest.mark.parametrize(
        "function",
        [
            filled(0, -math.inf),
            filled(3, 2.5),
            filled(-1, 0.0, dim=2),
            filled(5, -math.inf, dim=-1),
            assigned,
            filled_over_infinity,
        ],
        ids=["row", "number", "column", "last dimension", "x[:, 0] = -inf", "a number over -inf"],
    )
    def test_becomes_a_mask(self, function: Callable[[Tensor], Tensor]) -> None:
        program, reasons = rewritten(function, X, rules=(FillByMask(),))
        assert reasons == []
        assert not {"select_scatter", "fill", "copy"} & set(operators(program))

    def test_what_is_no_number_is_refused(self) -> None:
        def function(x: Tensor) -> Tensor:
            y = x * 1
            y[:, 0] = x[:, 1]
            return y

        _, reasons = rewritten(function, X, rules=(FillByMask(),))
        assert reasons == ["what is written is no number known at export"]


class TestStridedSlice:
    @pytest.mark.parametrize("N", [6, 7, 8])
    @pytest.mark.parametrize("product", [False, True])
    def test_goes_without_a_stride(self, N: int, product: bool) -> None:
        x = torch.randn(2, N, 4, generator=G)

        def function(x: Tensor) -> tuple[Tensor, ...]:
            cuts = [x[:, start::step] for start in (0, 1, 2, 4, -2, -3) for step in (2, 3)]
            return tuple(rows @ x.mT if product else rows * 2 for rows in cuts)

        program, reasons = rewritten(function, x, rules=(StridedSlice(),))
        assert reasons == []
        assert all(slice_of(node).step == 1 for node in nodes_of(program, torch.ops.aten.slice.Tensor))

    @pytest.mark.parametrize(("product", "copies"), [(True, 0), (False, 2)])
    def test_the_halves_of_a_match_are_views_and_those_of_a_merge_copies(self, product: bool, copies: int) -> None:
        def function(x: Tensor) -> Tensor:
            a, b = x[:, ::2], x[:, 1::2]
            return a @ b.mT if product else torch.cat([a, b], 1)

        program, _ = rewritten(function, X, rules=(StridedSlice(),))
        assert operators(program)["index_select"] == copies

    @pytest.mark.parametrize(
        ("cut", "reason"),
        [
            (lambda x: x[:, 1:4] * 2, "no step"),
            (lambda x: x[:, 0:4:2] * 2, "not along the rows to their end"),
            (lambda x: x[..., ::2] * 2, "not along the rows to their end"),
        ],
        ids=["no step", "part", "channels"],
    )
    def test_others_are_refused(self, cut: Callable[[Tensor], Tensor], reason: str) -> None:
        _, reasons = rewritten(cut, X, rules=(StridedSlice(),))
        assert set(reasons) == {reason}


class TestViews:
    @pytest.mark.parametrize(
        "view",
        [
            lambda x: x.unsqueeze(1) * 2,
            lambda x: x[:, :1].squeeze(1) * 2,
            lambda x: x[:1, :1].squeeze() * 2,
            lambda x: x.flatten(1) * 2,
            lambda x: x[:, 3] * 2,
            lambda x: x[..., -1] * 2,
            lambda x: torch.stack(x.unbind(1)[::2], 1),
            lambda x: torch.stack(x.unbind(-1)[1:3], 1),
        ],
        ids=["unsqueeze", "squeeze", "squeeze all", "flatten", "select", "select last", "unbind", "unbind last"],
    )
    def test_become_reshapes_and_slices(self, view: Callable[[Tensor], Tensor]) -> None:
        program, reasons = rewritten(view, X, rules=(ViewByReshape(), SelectBySlice(), UnbindBySlices()))
        assert reasons == []
        assert set(operators(program)) <= {"reshape", "view", "slice", "narrow", "mul", "stack"}


class TestStack:
    def test_rotation_becomes_a_product(self) -> None:
        def rotate(x: Tensor) -> Tensor:
            return torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)

        program, reasons = rewritten(rotate, X, rules=(StackBySelection(),))
        assert reasons == []
        assert set(operators(fold_weights(program)[0])) == {"linear", "reshape"}

    @pytest.mark.parametrize(
        ("stack", "reason"),
        [
            (lambda x: torch.stack([x[..., ::2], x[..., 1::2]], 1), "not stacked behind the last dimension"),
            (lambda x: torch.stack([x[..., ::2], 2 * x[..., 1::2]], -1), "not slices of one tensor's last dimension"),
            (lambda x: torch.stack([x[:, ::2], x[:, 1::2]], -1), "not slices of one tensor's last dimension"),
        ],
        ids=["elsewhere", "scaled", "rows"],
    )
    def test_others_are_refused(self, stack: Callable[[Tensor], Tensor], reason: str) -> None:
        _, reasons = rewritten(stack, X, rules=(StackBySelection(),))
        assert reasons == [reason]


class Block(nn.Module):
    """A pre-norm transformer block with the usual spellings."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(approximate="tanh"), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).reshape(2, 6, 3, 2, 4).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 6, 8))
        return x + self.mlp(self.norm2(x)) + k.mean(1).norm(dim=-1, keepdim=True)


def test_a_block_consists_of_operators_that_the_delegate_takes() -> None:
    block = randomised(Block())
    legal = legalize_for_xnnpack(program_of(block, X)).program
    torch.testing.assert_close(run(legal, X)[0], block(X), rtol=1e-4, atol=1e-4)
    products = {"linear", "bmm"}
    elementwise = {"add", "sub", "mul", "softmax", "sigmoid", "rsqrt", "sqrt"}
    movement = {"reshape", "view", "permute", "transpose", "slice", "narrow"}
    assert set(operators(legal)) <= products | elementwise | movement
    numbers = [
        node.name
        for node in legal.graph.nodes
        if str(node.target).split(".")[1:2] in (["add"], ["mul"], ["sub"])
        and any(isinstance(argument, int | float) for argument in node.args[:2])
    ]
    assert numbers == []


class BigMlp(nn.Module):
    """Two layers with a 4 MiB weight between them, and what happens to the hidden channels."""

    def __init__(self, hidden: Callable[[nn.Linear, nn.Linear, Tensor], Tensor]) -> None:
        super().__init__()
        self.up, self.gate, self.down = nn.Linear(512, 2064), nn.Linear(512, 2064, bias=False), nn.Linear(2064, 512)
        self.hidden = hidden

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.hidden(self.up, self.gate, x))


MANY_ROWS, FEW_ROWS = torch.randn(2, 20, 512, generator=G), torch.randn(1, 20, 512, generator=G)
MLPS: dict[str, Callable[[nn.Linear, nn.Linear, Tensor], Tensor]] = {
    "gelu": lambda up, gate, x: F.gelu(up(x)),
    "gated": lambda up, gate, x: F.silu(gate(x)) * up(x),
    "gelu by sigmoid": lambda up, gate, x: (h := up(x)) * torch.sigmoid(h * (h * h * 0.0713 + 1.5957)),
}


class TestChunkedMlp:
    @pytest.mark.parametrize("name", MLPS)
    def test_is_the_sum_of_its_chunks(self, name: str) -> None:
        program, _ = rewritten(BigMlp(MLPS[name]), MANY_ROWS, rules=(ChunkedMlp(),))
        layers = [node for node in program.graph.nodes if node.target is torch.ops.aten.linear.default]
        assert len(layers) == (6 if name == "gated" else 4)
        assert {node.meta["val"].shape[-1] for node in layers} == {512, 1040, 1024}

    @pytest.mark.parametrize(
        ("hidden", "x", "reason"),
        [
            (MLPS["gelu"], FEW_ROWS, "few rows"),
            (lambda up, gate, x: up(x).softmax(-1), MANY_ROWS, "no two linear layers"),
            (lambda up, gate, x: up(x), MANY_ROWS, "no two linear layers"),
            (lambda up, gate, x: up(x) * torch.arange(2064.0), MANY_ROWS, "something else comes in between the layers"),
            (
                lambda up, gate, x: (h := F.gelu(up(x))) + h.mean(),
                MANY_ROWS,
                "something else comes in between the layers",
            ),
        ],
        ids=["few rows", "softmax", "nothing between", "a vector", "a mean"],
    )
    def test_others_are_left(self, hidden: Callable[..., Tensor], x: Tensor, reason: str) -> None:
        _, reasons = rewritten(BigMlp(hidden), x, rules=(ChunkedMlp(),))
        assert reason in reasons

    def test_hidden_channels_that_others_read_are_left(self) -> None:
        class Both(BigMlp):
            def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
                h = F.gelu(self.up(x))
                return self.down(h), h.amax(-1)

        _, reasons = rewritten(Both(MLPS["gelu"]), MANY_ROWS, rules=(ChunkedMlp(),))
        assert "others read the hidden channels" in reasons

    def test_a_weight_that_fits_the_cache_is_left(self) -> None:
        _, reasons = rewritten(
            nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64)),
            torch.randn(1, 50, 64),
            rules=(ChunkedMlp(),),
        )
        assert "the weight stays in the cache" in reasons
