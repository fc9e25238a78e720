"""Whether all of a tensor is finite: as `torch.isfinite` says."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tm_export.models.checkpoints.finite import is_finite

NUMBERS = st.one_of(st.sampled_from([math.nan, math.inf, -math.inf]), st.floats(-100, 100))


@given(st.lists(NUMBERS, max_size=9), st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]))
def test_any_numbers_of_any_width(numbers: list[float], dtype: torch.dtype) -> None:
    tensor = torch.tensor(numbers, dtype=dtype)
    assert is_finite(tensor) == bool(tensor.isfinite().all())


@pytest.mark.parametrize("bad", [complex(math.nan, 0), complex(0, math.inf)])
def test_complex_numbers_are_two(bad: complex) -> None:
    assert is_finite(torch.tensor([1 + 2j]))
    assert not is_finite(torch.tensor([1 + 2j, bad]))


def test_numbers_of_8_bits_integers_and_truth_values() -> None:
    numbers = torch.tensor([1.0, math.nan])
    assert not is_finite(numbers.to(torch.float8_e5m2)) and is_finite(numbers[:1].to(torch.float8_e4m3fn))
    assert is_finite(torch.tensor([1, 2])) and is_finite(torch.tensor([True]))
