"""Fuzz the rules: programs like each rule's pattern and near it, held against PyTorch in every stage and form.

    python benchmarks/rule_fuzzer.py                          10 minutes
    python benchmarks/rule_fuzzer.py --minutes 60 --seed 7    longer, others
    python benchmarks/rule_fuzzer.py --export 20              one in 20 is exported to all targets, and run there

A program that PyTorch itself refuses is none. The others are captured, raised and lowered in every form of every
target, and run on the inputs that they were captured with and on others; the oracle is the program's own text. The
programs are those of tests/support/rule_programs.py, which the tests draw a few of.

Prints how many programs of each rule there were, and of each kind of failure the smallest program; the exit code is 1
if there was any.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.rule_oracle import Refused, differences, expected_of, exported_differences
from tests.support.rule_programs import PROGRAMS, RuleProgram
from tm_export.exporters.targets.base import target_names

BATCH = 25
"""Programs of one rule before it is the next one's turn."""


def main() -> int:
    """Write programs until the time is over; returns the exit code."""
    parser = argparse.ArgumentParser(description="Fuzz the rules against PyTorch.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", type=int, default=0, metavar="N", help="export one in N programs; 0 for none")
    parser.add_argument("--rule", choices=PROGRAMS, action="append", help="only this rule; may be repeated")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    smallest: dict[str, tuple[RuleProgram, str]] = {}
    deadline, batch = time.monotonic() + 60 * asked.minutes, 0
    while time.monotonic() < deadline:
        for rule in asked.rule or PROGRAMS:
            for program in programs_of(rule, asked.seed + batch):
                if time.monotonic() >= deadline:
                    break
                counts[rule] += 1
                exports = asked.export > 0 and counts.total() % asked.export == 0
                for failure in failures(program, exports=exports):
                    kind = f"{rule}: {failure.partition('[')[0][:80]}"
                    if kind not in smallest or len(repr(program)) < len(repr(smallest[kind][0])):
                        smallest[kind] = (program, failure)
                        print(f"{program!r}\n    -> {failure[:400]}\n", flush=True)
        batch += 1
    print("\n".join(f"{rule:14} {count:7} programs" for rule, count in counts.items()))
    for kind, (program, _) in smallest.items():
        print(f"\n{kind}\n{program!r}")
    return 1 if smallest else 0


def programs_of(rule: str, number: int) -> list[RuleProgram]:
    """The programs of one batch, those that PyTorch runs."""
    found: dict[str, RuleProgram] = {}

    @seed(number)
    @settings(max_examples=BATCH, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def draw(data: st.DataObject) -> None:
        program = data.draw(PROGRAMS[rule])
        try:
            expected_of(program)
        except Refused:
            return
        found[repr(program)] = program

    draw()
    return list(found.values())


def failures(program: RuleProgram, *, exports: bool) -> Iterator[str]:
    """Every difference, and whatever is raised on the way."""
    try:
        yield from differences(program)
        if exports:
            for target in target_names():
                with tempfile.TemporaryDirectory() as folder:
                    yield from exported_differences(program, target, Path(folder))
    except Exception as error:
        yield f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main())
