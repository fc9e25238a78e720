"""Sizes on command lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tm_export.runtime.units import UNITS, SizeError, parse_budget, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1.2GB", 1_200_000_000),
        ("200MB", 200_000_000),
        ("512MiB", 536_870_912),
        (" 200 mb ", 200_000_000),
        ("0.1kB", 100),
        ("1.B", 1),
        (".5KiB", 512),
        ("2TiB", 2_199_023_255_552),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size == parse_budget(text)


@given(st.integers(1, 10**15), st.sampled_from(sorted(UNITS)))
def test_whole_numbers_are_exact_in_every_unit(number: int, unit: str) -> None:
    assert parse_size(f"{number}{unit}") == number * UNITS[unit]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GB",
        "1.2",
        "1200000000",
        "-1GB",
        "nanGB",
        "NaN",
        "inf",
        "1e9B",
        "1.2.3GB",
        "1,2GB",
        "5 parsecs",
        "1gbb",
        "٣GB",
    ],
)
def test_what_is_no_size_is_refused_with_the_units(text: str) -> None:
    for parse in (parse_size, parse_budget):
        with pytest.raises(SizeError, match="units are B, kB, MB, GB, TB, KiB, MiB, GiB, TiB") as caught:
            parse(text)
        assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["0GB", "0.0MB", "0.4B"])
def test_less_than_a_byte_is_refused(text: str) -> None:
    with pytest.raises(SizeError, match="less than one byte"):
        parse_size(text)


def test_none_is_a_budget_and_no_size() -> None:
    assert parse_budget("none") is None and parse_budget(" None ") is None
    with pytest.raises(SizeError, match="'none' is no size"):
        parse_size("none")
    with pytest.raises(SizeError, match="or write none for no bound"):
        parse_budget("nothing")
