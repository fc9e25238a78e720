"""Integers on ExecuTorch: remainders, sums, powers and shifts as Python has them, not as C or floats do."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.support.programs import operators, program_of, run
from tm_export.exporters.graph.rule import apply_rules
from tm_export.exporters.targets.shared.integers import INTEGERS, DivisionByFloor

LARGE = {torch.int8: 127, torch.int32: 2**31 - 1, torch.int64: 2**40 + 7}
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "remainder": lambda x: torch.stack([x % divisor for divisor in (1, 3, -3, 7, -7)]),
    "sum": lambda x: x.sum(-1),
    "sum of all": lambda x: x.reshape(2, -1).sum(),
    "sum that stays": lambda x: x.reshape(2, -1).sum((0, 1), keepdim=True),
    "narrow sum": lambda x: x.sum(-1, dtype=x.dtype),
    "power": lambda x: x**3,
    "shifts": lambda x: torch.stack([x << 2, x >> 1, x >> 5]),
}
GONE = {"remainder", "sum", "pow", "__lshift__", "__rshift__"}


@pytest.mark.parametrize("dtype", LARGE, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_integers_without_the_operator(name: str, dtype: torch.dtype) -> None:
    large = LARGE[dtype]
    x = torch.tensor([7, -7, 8, -8, 5, -1, 0, large, -large, large], dtype=dtype)
    before = program_of(FUNCTIONS[name], x)
    after, firings = apply_rules(before, INTEGERS)
    assert any(firing.fired for firing in firings)
    assert torch.equal(run(after, x)[0], FUNCTIONS[name](x))
    assert not GONE & set(operators(after))


@pytest.mark.parametrize("dtype", LARGE, ids=str)
def test_remainders_are_pythons_for_all_signs(dtype: torch.dtype) -> None:
    pairs = [(a, b) for a, b in itertools.product(range(-9, 10), range(-4, 5)) if b]
    a, b = (torch.tensor(side, dtype=dtype) for side in zip(*pairs, strict=True))
    program, _ = apply_rules(program_of(lambda a, b: a % b, a, b), INTEGERS)
    assert run(program, a, b)[0].tolist() == [a % b for a, b in pairs]


@pytest.mark.parametrize("mode", ["trunc", "floor"])
@pytest.mark.parametrize("dtype", LARGE, ids=str)
def test_rounded_division_loses_no_digit(dtype: torch.dtype, mode: str) -> None:
    a = torch.tensor([7, -7, 8, -8, 0, LARGE[dtype], -LARGE[dtype]], dtype=dtype)
    b = torch.tensor([3, 3, -3, -3, 5, 2, -5], dtype=dtype)
    before = program_of(lambda a, b: torch.div(a, b, rounding_mode=mode) + torch.div(a, -3, rounding_mode=mode), a, b)
    program, _ = apply_rules(before, (DivisionByFloor(),))
    assert torch.equal(run(program, a, b)[0], run(before, a, b)[0])
    assert "div" not in operators(program)


def test_a_divisor_that_the_type_cannot_hold_wraps_around() -> None:
    x = torch.tensor([200, 3, 255, 249], dtype=torch.uint8)
    before = program_of(lambda x: x % -7 + torch.div(x, -7, rounding_mode="trunc"), x)
    program, _ = apply_rules(before, (*INTEGERS, DivisionByFloor()))
    assert torch.equal(run(program, x)[0], x % -7 + torch.div(x, -7, rounding_mode="trunc"))


def test_remainders_of_floats_stay() -> None:
    _, firings = apply_rules(program_of(lambda x: x % 0.7, torch.randn(4)), INTEGERS)
    assert [firing.reason for firing in firings] == ["not of integers"]
