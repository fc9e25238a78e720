"""The text of an answer, as published where that works."""

from typing import Any

import numpy as np
import pytest

from tm_export.runtime.apps.charts.programs.answer import answer_text
from tm_export.runtime.apps.charts.programs.errors import ProgramFailed, ProgramRefused
from tm_export.runtime.apps.charts.programs.values import Array, Distinct


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(5, "5"), (-3, "-3"), (12.0, "12"), (-0.0, "0"), (0.1 + 0.2, "0.3")],
        *[(2 / 3, "0.6667"), (1234.56789, "1234.5679")],
        *[(1e15, "1000000000000000"), (1e16, "1e+16"), (1e300, "1e+300")],
        *[(0.00001, "0"), (0.00005001, "0.0001"), (-2.5, "-2.5")],
        *[(True, "Yes"), (False, "No"), ("Germany", "Germany"), ("12", "12"), (10**20, "1" + "0" * 20)],
        *[([7], "7"), (["a"], "a"), ([True], "Yes"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")],
        *[([1, 2.5, 3.0], "1, 2.5 and 3"), ((1, 2), "1 and 2"), ([True, "x"], "Yes and x")],
        (Array((1.5, 2.0)), "1.5 and 2"),
        *[(Array(("a",)), "a"), (Distinct({"b": None, "a": None}), "b and a")],
    ],
)  # fmt: skip
def test_a_value_as_text(value: Any, text: str) -> None:
    assert answer_text(value) == text


@pytest.mark.parametrize("value", [0.5, 123.4, 1e-3, 98765.4321, -7.25])
def test_a_float_is_written_as_the_demo_writes_it(value: float) -> None:
    assert answer_text(value) == str(np.float64(value).round(4))


@pytest.mark.parametrize(
    "value", [float("inf"), float("-inf"), float("nan"), [1, float("nan")], Array((float("inf"),))]
)
def test_what_is_not_finite_is_no_answer(value: Any) -> None:
    with pytest.raises(ProgramFailed, match="not finite"):
        answer_text(value)


@pytest.mark.parametrize(
    "value", [None, {}, {"a": 1}, [], (), Array(()), [[1], [2]], [None], [Array((1,))], [{"a": 1}]]
)
def test_what_is_neither_a_scalar_nor_some_is_no_answer(value: Any) -> None:
    with pytest.raises(ProgramFailed, match=r"no answer|empty"):
        answer_text(value)


def test_an_answer_is_not_endless() -> None:
    with pytest.raises(ProgramRefused, match="characters"):
        answer_text(["a" * 900, "b" * 900])
