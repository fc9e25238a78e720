"""What counts as right, and where the published metric differs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tm_export.runtime.apps.charts.programs.relaxed_accuracy import published_relaxed_accuracy, relaxed_accuracy


@pytest.mark.parametrize(
    ("prediction", "truth"),
    [
        *[("10", "10"), ("10.5", "10"), ("9.5", "10"), ("10", "10.0")],
        *[(" 10 ", "10"), ("-10.5", "-10"), ("-9.5", "-10")],
        *[("0", "0"), ("0.0", "0"), ("-0", "0"), ("Yes", "yes"), ("Germany", "GERMANY ")],
        *[("12%", "12.5%"), ("12%", "0.12")],
        *[("1e3", "1000"), ("nan", "NaN"), ("inf", "inf"), ("1,234", "1,234"), ("", "")],
    ],
)  # fmt: skip
def test_right(prediction: str, truth: str) -> None:
    assert relaxed_accuracy(prediction, truth)


@pytest.mark.parametrize(
    ("prediction", "truth"),
    [
        *[("10.51", "10"), ("9.49", "10"), ("-10", "10"), ("10", "-10"), ("-10.51", "-10"), ("0.001", "0"), ("1", "0")],
        *[("no", "yes"), ("12", "twelve"), ("12%", "12"), ("nan", "1")],
        *[("inf", "1"), ("inf", "-inf"), ("1,234", "1234")],
        *[("", "0"), ("%", "0"), ("1e308", "-1e308")],
    ],
)  # fmt: skip
def test_wrong(prediction: str, truth: str) -> None:
    assert not relaxed_accuracy(prediction, truth)


@given(st.floats(-1e6, 1e6).filter(bool), st.floats(-0.2, 0.2).filter(lambda error: abs(abs(error) - 0.05) > 1e-6))
def test_five_percent_on_either_side_of_either_sign(truth: float, error: float) -> None:
    assert relaxed_accuracy(repr(truth * (1 + error)), repr(truth)) == (abs(error) < 0.05)


@pytest.mark.parametrize("prediction", ["-10", "10", "0", "1000000", "-1000000"])
def test_published_any_number_is_right_where_the_truth_is_negative(prediction: str) -> None:
    assert published_relaxed_accuracy(prediction, "-10")
    assert relaxed_accuracy(prediction, "-10") == (prediction == "-10")


@pytest.mark.parametrize(
    ("prediction", "truth", "right"),
    [
        *[("10.5", "10", True), ("10.51", "10", False), ("0", "0", True), ("1", "0", False), ("yes", "Yes", False)],
        *[("Yes", "Yes", True), ("12%", "12%", True), ("12%", "0.12", False)],
        *[("10", "ten", False), ("ten", "10", False)],
        *[("nan", "10", False), ("nan", "nan", False), ("inf", "10", False)],
    ],
)  # fmt: skip
def test_as_published(prediction: str, truth: str, right: bool) -> None:
    assert published_relaxed_accuracy(prediction, truth) == right


@given(st.floats(0.001, 1e6), st.floats(-1e6, 1e6))
def test_both_agree_where_the_truth_is_positive(truth: float, prediction: float) -> None:
    if abs(abs(prediction - truth) / truth - 0.05) > 1e-9:
        assert relaxed_accuracy(repr(prediction), repr(truth)) == published_relaxed_accuracy(
            repr(prediction), repr(truth)
        )
