"""Export each ATen operator with drawn arguments to each target, and hold what runs against PyTorch: the whole table.

    python benchmarks/operators.py                             all operators, all targets; takes an hour
    python benchmarks/operators.py --target onnx aten.amax     operators whose names begin so
    python benchmarks/operators.py --journal FILE              goes on where an earlier run with the file stopped
    python benchmarks/operators.py --journal FILE --write      writes what was tried into the table in docs, if all is
                                                               right or refused

The operators and the calls of each are those of tests/operators/. Calls of several are exported together, and one half
after the other if that fails. Prints what is not right; the exit code is 1 if anything is wrong or crashes.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "operators"))

import table
from calls import Call
from registry import OPERATORS
from trial import Outcome, is_native, outcome_of

import tm_export.exporters.convert.worker_setup  # noqa: F401  # coremltools is quiet from here on
from tm_export.exporters.targets.base import Target, find_target, target_names

TOGETHER: Final = 48
"""Calls that are exported in one program."""


def main() -> int:
    """Try the operators that were asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description="Export each ATen operator and hold it against PyTorch.")
    parser.add_argument("prefixes", nargs="*", help="operators whose names begin so; all of them if there are none")
    parser.add_argument("--target", choices=target_names(), action="append")
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--write", action="store_true", help="write the table that docs show")
    asked = parser.parse_args()
    done = _read(asked.journal)
    names = [name for name in OPERATORS if not asked.prefixes or name.startswith(tuple(asked.prefixes))]
    targets = asked.target or target_names()
    for target in targets:
        for group in _groups([name for name in names if (name, target) not in done]):
            started = time.monotonic()
            for row in _tried(group, target):
                done[row["operator"], target] = row
                if asked.journal:
                    with asked.journal.open("a") as file:
                        file.write(json.dumps(row) + "\n")
            print(f"{target:11} {group[0]} … {group[-1]} {time.monotonic() - started:.0f}s", flush=True)
            for name in group:
                _show(done[name, target])
    counts = Counter(
        (target, each["verdict"]) for target in targets for name in names for each in done[name, target]["calls"]
    )
    for (target, verdict), count in sorted(counts.items()):
        print(f"{target:12} {verdict:8} {count:5} calls")
    failed = any(verdict in ("wrong", "crash") for _, verdict in counts)
    if asked.write and not failed:
        rows = {(row.operator, row.target): row for row in (*table.read(), *map(_row_of_table, done.values()))}
        table.write([rows[name, target] for name in OPERATORS for target in table.TARGETS])
    return 1 if failed else 0


def _groups(names: Sequence[str]) -> Iterator[list[str]]:
    """Operators in a row whose calls fit in one program."""
    group: list[str] = []
    for name in names:
        if group and sum(len(OPERATORS[each]) for each in (*group, name)) > TOGETHER:
            yield group
            group = []
        group.append(name)
    if group:
        yield group


def _tried(names: list[str], target: str) -> list[dict[str, Any]]:
    """What became of a group, in a process of its own; one by one if that dies, and then it is known which."""
    try:
        with _pool() as pool:
            return pool.submit(tried, names, target).result()
    except BrokenProcessPool:
        if len(names) > 1:
            return [row for name in names for row in _tried([name], target)]
        died = [{"call": str(each), "verdict": "crash", "said": "the process died"} for each in OPERATORS[names[0]]]
        return [{"operator": names[0], "target": target, "native": False, "calls": died}]


def _pool() -> ProcessPoolExecutor:
    """One process, forked: what is imported here need not be imported again."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"), initializer=_set_up)


def _set_up() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)


def tried(names: list[str], target_name: str) -> list[dict[str, Any]]:
    """The outcome of each call of these operators."""
    target = find_target(target_name)
    calls = tuple(each for name in names for each in OPERATORS[name])
    outcomes = iter(_halved(calls, target))
    rows = []
    for name in names:
        own = [(each, next(outcomes)) for each in OPERATORS[name]]
        right = next((each for each, outcome in own if outcome.verdict == "right"), None)
        rows.append({
            "operator": name,
            "target": target_name,
            "native": right is not None and is_native(name, right, target),
            "calls": [{"call": str(each), "verdict": o.verdict, "said": o.said} for each, o in own],
        })  # fmt: skip
    return rows


def _halved(calls: tuple[Call, ...], target: Target) -> list[Outcome]:
    """The outcome of each call: of all together if they are right, else of one half and of the other."""
    if not calls:
        return []
    outcome = outcome_of(calls, target)
    if len(calls) == 1 or outcome.verdict == "right":
        return [outcome] * len(calls)
    half = len(calls) // 2
    return _halved(calls[:half], target) + _halved(calls[half:], target)


def _row_of_table(row: dict[str, Any]) -> table.Row:
    refused, limits = (
        tuple((each["call"], each["said"]) for each in row["calls"] if each["verdict"] == verdict)
        for verdict in ("refused", "limit")
    )
    return table.Row(row["operator"], row["target"], len(row["calls"]), row["native"], refused, limits)


def _read(journal: Path | None) -> dict[tuple[str, str], dict[str, Any]]:
    if journal is None or not journal.exists():
        return {}
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    return {(row["operator"], row["target"]): row for row in rows}


def _show(row: dict[str, Any]) -> None:
    for each in row["calls"]:
        if each["verdict"] != "right":
            print(f"    {each['verdict']:8} {each['call']}\n             {each['said'][:300]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
