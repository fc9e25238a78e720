"""The table of operators is of all of them and what docs show, and holds: a call of each that it says is right is."""

from __future__ import annotations

import pytest
import table
from calls import Call
from limits import LIMITS
from registry import NOT_FORWARD, OPERATORS, core_operators
from right import right_everywhere
from trial import hold_rewriting, outcome_of

from tm_export.exporters.targets.base import find_target

ROWS = table.read()


def test_every_operator_of_the_core_set_is_tried() -> None:
    assert core_operators() - NOT_FORWARD <= set(OPERATORS)


def test_the_table_is_of_all_calls_of_all_operators() -> None:
    assert {(row.operator, row.target): row.calls for row in ROWS} == {
        (name, target): len(calls) for name, calls in OPERATORS.items() for target in table.TARGETS
    }


def test_docs_show_the_table() -> None:
    assert (table.DOCS / "operators.md").read_text() == table.page(ROWS)
    assert table.section(ROWS) in (table.DOCS / "lowering.md").read_text()


@pytest.mark.parametrize("target", table.TARGETS)
def test_a_call_of_each_operator_is_right_where_the_table_says_so(target: str) -> None:
    """In one program, of every fifth operator: all of them take an hour."""
    others = {(row.operator, call) for row in ROWS if row.target == target for call, _ in (*row.refused, *row.limits)}
    right = {
        name: next((each for each in calls if (name, str(each)) not in others), None)
        for name, calls in OPERATORS.items()
    }
    calls = tuple(each for each in right.values() if each is not None)[::5]
    assert outcome_of(calls, find_target(target)).verdict == "right"


@pytest.mark.parametrize("calls", right_everywhere()[::11], ids=lambda calls: str(calls[0]))
def test_calls_compute_the_same_as_each_target_has_them_written(calls: tuple[Call, ...]) -> None:
    """Some, by all passes of an export and no converter; `test_rules_one_by_one.py` has all, by the rules alone."""
    for target in table.TARGETS:
        hold_rewriting(calls, find_target(target))


@pytest.mark.parametrize("target", table.TARGETS)
def test_what_the_table_refuses_is_refused(target: str) -> None:
    refused = {(row.operator, call) for row in ROWS if row.target == target for call, _ in row.refused}
    calls = [each for name, own in OPERATORS.items() for each in own if (name, str(each)) in refused]
    for each in calls[::20]:
        assert outcome_of((each,), find_target(target)).verdict == "refused", each


def test_limits_are_still_met() -> None:
    calls = {(target, each.text): each for each in sum(OPERATORS.values(), ()) for target in table.TARGETS}
    for target, text in LIMITS:
        assert outcome_of((calls[target, text],), find_target(target)).verdict == "limit", text
