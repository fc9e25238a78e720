"""Capture: static, seeded, functional; bad modules and inputs are told."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from tests.support.programs import Lambda, operators, program_of, run
from tests.zoo import RANDOM, ZOO
from tm_export.exporters.capture.capture import capture
from tm_export.exporters.errors import ConversionRefused, UsageError

X = torch.randn(1, 8, 3, generator=torch.Generator().manual_seed(0))


DRAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "rand": lambda x: x * torch.rand(8, 1),
    "randn_like": lambda x: x + torch.randn_like(x),
    "rand_like": lambda x: x + torch.rand_like(x),
    "randint_like": lambda x: x + torch.randint_like(x, 2, 9),
    "randint": lambda x: x[:, torch.randint(8, (4,))],
    "randperm": lambda x: x[:, torch.randperm(8)[:5]],
    "bernoulli": lambda x: x * torch.bernoulli(torch.full((8, 1), 0.5)),
    "multinomial": lambda x: x[:, torch.multinomial(torch.ones(8), 4)],
}


@pytest.mark.parametrize("name", DRAWS)
def test_what_is_random_follows_the_seed(name: str) -> None:
    def outcome(seed: int) -> Tensor:
        program = capture(Lambda(DRAWS[name]), (X,), seed)
        first, second = run(program, X), run(program, X)
        assert torch.equal(first[0], second[0])
        return first[0]

    torch.manual_seed(5)
    one = outcome(1)
    torch.manual_seed(6)
    assert torch.equal(outcome(1), one)
    assert any(not torch.equal(outcome(seed), one) for seed in (2, 3, 4))


def test_the_users_random_state_is_left_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    capture(Lambda(DRAWS["rand"]), (X,), seed=9)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", [name for name in RANDOM if name != "tomesd_unet"])
def test_random_models_are_fixed_by_the_seed(name: str) -> None:
    module, inputs = ZOO[name]()
    first, again, other = (run(capture(module, inputs, seed), *inputs)[0] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_tomesds_unet_is_unharmed_and_its_generator_follows_the_seed() -> None:
    """tomesd keeps a generator on its modules, and its hooks leave sizes there: capture must leave no trace."""
    module, inputs = ZOO["tomesd_unet"]()
    first = run(capture(module, inputs, 1), *inputs)[0]
    again = run(capture(module, inputs, 1), *inputs)[0]
    assert torch.equal(first, again)
    for _ in range(2):
        assert module(*inputs).isfinite().all()
    assert not any(
        isinstance(value, torch._subclasses.FakeTensor) for m in module.modules() for value in vars(m).values()
    )
    assert {type(parameter) for parameter in module.parameters()} == {nn.Parameter}


@pytest.mark.parametrize("name", ["tome_sizes", "vit_tome"])
def test_an_eager_module_is_unharmed(name: str) -> None:
    module, inputs = ZOO[name]()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    expected, _ = tree_flatten(module(*inputs))
    capture(module, inputs)
    again, _ = tree_flatten(module(*inputs))
    assert all(torch.equal(a, b) for a, b in zip(again, expected, strict=True))
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_a_mask_known_at_export_chooses_a_known_number() -> None:
    def half(x: Tensor) -> Tensor:
        mask = torch.arange(8) % 3 == 0
        out = x.clone()
        out[:, mask] = x[:, mask] * 2
        return out[:, ~mask]

    program = program_of(half, X)
    assert torch.equal(run(program, X)[0], half(X))
    shapes = [node.meta["val"].shape for node in program.graph.nodes if isinstance(node.meta.get("val"), Tensor)]
    assert all(isinstance(size, int) for shape in shapes for size in shape)


def test_operators_stay_as_high_as_they_were_written() -> None:
    block = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.GELU())
    assert set(operators(program_of(block, X))) == {"linear", "layer_norm", "gelu"}
    attention = program_of(lambda x: nn.functional.scaled_dot_product_attention(x, x, x), X)
    assert set(operators(attention)) == {"scaled_dot_product_attention"}


def test_in_place_operators_become_functional_and_inputs_are_not_written() -> None:
    def write(x: Tensor) -> Tensor:
        y = x * 2
        y[:, 0] = -torch.inf
        y.add_(1)
        return y

    program, given = program_of(write, X), X.clone()
    assert torch.equal(run(program, given)[0], write(X))
    assert torch.equal(given, X)
    assert not any(name.endswith("_") for name in operators(program))


def test_assertions_are_dropped() -> None:
    def checked(x: Tensor) -> Tensor:
        torch._assert_async((x > -100).all())
        torch._check(x.shape[0] == 1)
        return x + 1

    program = program_of(checked, X)
    assert not any("assert" in name for name in operators(program))
    assert torch.equal(run(program, X)[0], X + 1)


def test_training_mode_is_left_behind() -> None:
    program = program_of(nn.Dropout(0.9).train(), X)
    assert torch.equal(run(program, X)[0], X)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (X, r"example inputs are a Tensor: give a tuple of tensors, `\(x,\)` for a single one"),
        ([X], r"example inputs are a list: give a tuple"),
        ((), r"there are no example inputs: give at least one tensor"),
        ((X, 3), r"example input 1 is a int, not a tensor"),
        ((X, {"x": X}), r"example input 1 is a dict, not a tensor"),
        ((X * torch.nan,), r"example input 0 holds NaN or infinity"),
        ((X, X.log().abs() / 0), r"example input 1 holds NaN or infinity"),
    ],
    ids=["tensor", "list", "empty", "int", "dict", "nan", "inf"],
)
def test_bad_inputs_are_told(inputs: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        capture(nn.Identity(), inputs)  # type: ignore[arg-type]


def test_a_module_that_does_not_run_is_told_with_its_line() -> None:
    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ torch.ones(5, 5)  # line that is wrong

    with pytest.raises(UsageError, match=r"Wrong does not run .* at test_capture\.py:\d+: return x @ .*line that is"):
        capture(Wrong(), (X,))


def test_an_exception_of_the_users_own_is_told_with_its_line() -> None:
    def wrong(x: Tensor) -> Tensor:
        raise KeyError("no such layer")

    with pytest.raises(UsageError, match=r"at test_capture\.py:\d+: raise KeyError.*no such layer"):
        program_of(wrong, X)


def test_too_many_inputs_are_told() -> None:
    with pytest.raises(UsageError, match="Identity does not run on its example inputs"):
        capture(nn.Identity(), (X, X))


def test_an_open_shape_is_refused_at_its_first_operator() -> None:
    class Positions(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.nonzero(x[0, :, 0] > 0) + 1

    with pytest.raises(ConversionRefused, match=r"at test_capture\.py:\d+: return torch\.nonzero"):
        capture(Positions(), (X,))
