"""Hostile programs are refused or fail: nothing else gets out of them, and they take neither time nor memory."""

import time
import tracemalloc
import warnings

import pytest

from tests.support.hostile_programs import HOSTILE
from tm_export.runtime.apps.charts.programs import limits
from tm_export.runtime.apps.charts.programs.errors import ProgramFailed, ProgramRefused
from tm_export.runtime.apps.charts.programs.program_answer import program_answer

MOST_SECONDS, MOST_BYTES = 1.0, 64 * 2**20
TRIES = 2
"""The machine may stop for a moment: a program that takes long does so again and again."""

by_category = pytest.mark.parametrize("category", HOSTILE)


def ended(text: str) -> ProgramFailed | ProgramRefused:
    with pytest.raises((ProgramFailed, ProgramRefused)) as caught:
        program_answer(text)
    return caught.value


def timed(text: str) -> tuple[float, ProgramFailed | ProgramRefused]:
    start = time.perf_counter()
    error = ended(text)
    return time.perf_counter() - start, error


@by_category
def test_each_is_refused_or_fails_at_once_and_in_one_sentence(category: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_SECONDS", 60)  # the clock stops none: on a slower machine they end as well
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for text in HOSTILE[category]:
            seconds, error = timed(text)
            assert seconds < MOST_SECONDS or any(timed(text)[0] < MOST_SECONDS for _ in range(TRIES)), text[:200]
            assert 0 < len(str(error)) < 2000 and "\n" not in str(error), text[:200]
            assert warned == [], text[:200]


@by_category
def test_none_takes_much_memory(category: str) -> None:
    tracemalloc.start()
    try:
        for text in HOSTILE[category]:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            ended(text)
            assert tracemalloc.get_traced_memory()[1] - before < MOST_BYTES, text[:200]
    finally:
        tracemalloc.stop()


def test_there_are_many_and_no_two_are_the_same() -> None:
    texts = [text for category in HOSTILE.values() for text in category]
    assert len(texts) >= 300
    assert len(set(texts)) == len(texts)
