"""Export each ATen operator with drawn arguments to each target, and hold what runs against PyTorch: the whole table.

    python benchmarks/operators.py                             all operators, all targets; takes an hour
    python benchmarks/operators.py --target onnx aten.amax     operators whose names begin so
    python benchmarks/operators.py --journal FILE              goes on where an earlier run with the file stopped
    python benchmarks/operators.py --write                     writes docs/operators.json and the section of docs

The operators and the calls of each are those of tests/operators/. All calls of one are exported together, and one by
one if that fails. Prints what is not right; the exit code is 1 if anything is wrong or crashes.
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
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "operators"))

from calls import Call
from registry import OPERATORS
from trial import Outcome, outcome_of

import tm_export.exporters.worker_setup  # noqa: F401  # coremltools is quiet from here on
from tm_export.exporters.targets.base import Target, find_target, target_names


def main() -> int:
    """Try the operators that were asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description="Export each ATen operator and hold it against PyTorch.")
    parser.add_argument("prefixes", nargs="*", help="operators whose names begin so; all of them if there are none")
    parser.add_argument("--target", choices=target_names(), action="append")
    parser.add_argument("--journal", type=Path)
    asked = parser.parse_args()
    done = _read(asked.journal)
    counts: Counter[tuple[str, str]] = Counter()
    pool = _pool()
    for name in OPERATORS:
        if asked.prefixes and not any(name.startswith(prefix) for prefix in asked.prefixes):
            continue
        for target in asked.target or target_names():
            if (name, target) not in done:
                started = time.monotonic()
                try:
                    row = pool.submit(tried, name, target).result()
                except BrokenProcessPool:
                    row = [{"call": "all", "verdict": "crash", "said": "the process died"}]
                    pool = _pool()
                done[name, target] = row
                _show(name, target, row, time.monotonic() - started)
                if asked.journal:
                    with asked.journal.open("a") as file:
                        file.write(json.dumps({"operator": name, "target": target, "calls": row}) + "\n")
            for each in done[name, target]:
                counts[target, each["verdict"]] += 1
    pool.shutdown()
    for (target, verdict), count in sorted(counts.items()):
        print(f"{target:12} {verdict:8} {count:5} calls")
    return 1 if any(verdict in ("wrong", "crash") for _, verdict in counts) else 0


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_set_up)


def _set_up() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)


def tried(name: str, target_name: str) -> list[dict[str, Any]]:
    """The outcome of each of an operator's calls; the first by itself, to see what it becomes."""
    target, calls = find_target(target_name), OPERATORS[name]
    outcomes = [outcome_of(calls[:1], target), *_halved(calls[1:], target)]
    return [_row(str(each), outcome) for each, outcome in zip(calls, outcomes, strict=True)]


def _halved(calls: tuple[Call, ...], target: Target) -> list[Outcome]:
    """The outcome of each call: of all together if they are right, else of one half and of the other."""
    if not calls:
        return []
    outcome = outcome_of(calls, target)
    if len(calls) == 1 or outcome.verdict == "right":
        return [outcome] * len(calls)
    half = len(calls) // 2
    return _halved(calls[:half], target) + _halved(calls[half:], target)


def _row(call: str, outcome: Outcome) -> dict[str, Any]:
    return {"call": call, "verdict": outcome.verdict, "said": outcome.said, "became": list(outcome.became)}


def _read(journal: Path | None) -> dict[tuple[str, str], list[dict[str, Any]]]:
    if journal is None or not journal.exists():
        return {}
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    return {(row["operator"], row["target"]): row["calls"] for row in rows}


def _show(name: str, target: str, row: list[dict[str, Any]], seconds: float) -> None:
    counts = Counter(each["verdict"] for each in row)
    print(f"{name:44} {target:11} {dict(counts)} {seconds:.1f}s", flush=True)
    for each in row:
        if each["verdict"] != "right":
            print(f"    {each['verdict']:8} {each['call']}\n             {each['said'][:300]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
