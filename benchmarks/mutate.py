"""Plant small faults in the compiler, one at a time, and see whether the tests find them.

    python benchmarks/mutate.py --sample 200 --seed 0
    python benchmarks/mutate.py --only lowering/ --journal out/mutants.jsonl

Each mutant is a process forked from one that has imported everything: the function's code is exchanged, and the tests
that call the function are run, the quickest first, until one fails. A mutant that no test fails on has survived, and is
listed. Results are appended to the journal; the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import builtins
import gc
import importlib
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Final

import pytest
from hypothesis import Phase, settings
from mutants import Mutant, codes, mutants_of, with_first_statement

ROOT: Final = Path(__file__).resolve().parent.parent
RAISING: Final = ("raise_best", "raise_gather", "raise_indexing", "raise_order", "raise_pairs", "raise_scatter")
ONE_BY_ONE: Final = "rules_one_by_one"
TESTS: Final[Mapping[str, Sequence[str]]] = {
    "exporters/targets/executorch/xnnpack/rules/": ("xnnpack_rules", ONE_BY_ONE),
    "exporters/targets/executorch/rules.py": ("executorch_rules", ONE_BY_ONE),
    "exporters/targets/executorch/conv3d.py": ("executorch_rules", ONE_BY_ONE),
    "exporters/targets/onnx/rules.py": ("onnx_rules", ONE_BY_ONE),
    "exporters/targets/onnx/attention.py": ("onnx_rules", ONE_BY_ONE),
    "exporters/targets/coreml/rules/": ("coreml_rules", "coreml_border", ONE_BY_ONE),
    "exporters/targets/coreml/spelling.py": ("spelling", ONE_BY_ONE),
    "exporters/targets/shared/": ("integers", "executorch_rules", "onnx_rules", "xnnpack_rules", ONE_BY_ONE),
    "exporters/merging/raising/": (*RAISING, "uniform", "bounds", "distinct", ONE_BY_ONE),
    "exporters/capture/normalise/": ("normalise", ONE_BY_ONE),
    "exporters/capture/capacity/": ("capacity",),
    "exporters/capture/counts/": ("counts",),
    "exporters/lowering/": ("lowering_forms", "forms_read_twice", "distinct", "bounds", "rule_programs"),
    "exporters/partition/search.py": ("partition",),
    "exporters/convert/convert.py": ("resume", "template", "jobs"),
    "exporters/reference/": ("parity", "eager", "planted_faults"),
    "exporters/verify/": ("parity", "eager", "planted_faults"),
    "runtime/engines/coreml_reference/": (
        *(f"coreml_reference_{name}" for name in ("engine", "readings", "mil_ops", "torch_ops")),
    ),
}
"""Which files of tests a file's mutants are given, by the beginning of its path: the first that fits."""
SLACK_S: Final = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="how many mutants, drawn from all (default: all of them)")
    parser.add_argument("--seed", type=int, default=0, help="what the sample is drawn with")
    parser.add_argument("--only", default="", help="only files whose path holds this")
    parser.add_argument("--journal", type=Path, default=ROOT / "out" / "mutants.jsonl")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))  # tests import helpers of other folders as `tests.…`
    chosen = _sample([m for file in _files() for m in mutants_of(ROOT / file, file)], arguments.sample, arguments.seed)
    chosen = [mutant for mutant in chosen if arguments.only in mutant.file]
    arguments.journal.parent.mkdir(parents=True, exist_ok=True)
    known = _journal(arguments.journal)
    by_tests: dict[Sequence[str], list[Mutant]] = defaultdict(list)
    for mutant in chosen:
        if mutant.name not in known:
            by_tests[_tests_of(mutant.file)].append(mutant)
    for files, mutants in by_tests.items():
        for name, verdict, seconds in _tried(files, mutants):
            known[name] = verdict
            with arguments.journal.open("a") as journal:
                journal.write(json.dumps({"mutant": name, "verdict": verdict, "seconds": round(seconds, 1)}) + "\n")
    _print_table([(mutant, known[mutant.name]) for mutant in chosen])


def _files() -> list[str]:
    found = [path for start in TESTS for path in ([start] if start.endswith(".py") else _python_files(start))]
    return list(dict.fromkeys(found))


def _python_files(folder: str) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in sorted((ROOT / folder).rglob("*.py"))]


def _tests_of(file: str) -> Sequence[str]:
    return next(tests for start, tests in TESTS.items() if file.startswith(start))


def _sample(mutants: list[Mutant], size: int | None, seed: int) -> list[Mutant]:
    if size is None or size >= len(mutants):
        return mutants
    return sorted(random.Random(seed).sample(mutants, size), key=lambda mutant: mutant.name)


def _journal(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    return {entry["mutant"]: entry["verdict"] for entry in map(json.loads, path.read_text().splitlines())}


def _tried(files: Sequence[str], mutants: Sequence[Mutant]) -> Iterator[tuple[str, str, float]]:
    """Each mutant's name, verdict and time. The tests are imported here, so that every fork has them."""
    paths = [str(path) for name in files for path in sorted((ROOT / "tests").rglob(f"test_{name}.py"))]
    assert len(paths) == len(files), f"one file for each of {files}: {paths}"
    for file in {mutant.file for mutant in mutants}:
        importlib.import_module("tm_export." + file.removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
    if _pytest("--collect-only", *paths) != 0:
        raise SystemExit(f"these tests cannot be collected: {' '.join(paths)}")
    # A failure is enough: the smallest example of it is not looked for. The same examples for all.
    settings.register_profile(
        "mutate", settings.default, phases=(Phase.explicit, Phase.generate), derandomize=True, database=None
    )
    settings.load_profile("mutate")
    calls = _Calls({(mutant.file, mutant.function) for mutant in mutants})
    with _result_of(lambda: calls.recorded(paths), limit_s=3600.0) as recorded:
        if recorded is None:
            raise SystemExit(f"without a mutant these tests do not end: {' '.join(paths)}")
        for test in recorded["failed"]:
            print(f"fails without a mutant, and is left out: {test}", flush=True)
    for mutant in mutants:
        began = time.monotonic()
        verdict = _verdict(mutant, recorded)
        print(f"{verdict:9} {mutant.name}", flush=True)
        yield mutant.name, verdict, time.monotonic() - began


def _verdict(mutant: Mutant, recorded: Mapping[str, Any]) -> str:
    """`killed`, `timeout` (killed too), `uncalled` or `survived` (not killed)."""
    seconds = recorded["seconds"]
    calling = set(recorded["tests"].get(f"{mutant.file}:{mutant.function}", ())) - set(recorded["failed"])
    tests = sorted(calling, key=seconds.__getitem__)
    if not tests:
        return "uncalled"
    with _result_of(
        lambda: _passes(mutant, tests), limit_s=3 * sum(map(seconds.__getitem__, tests)) + SLACK_S
    ) as passed:
        return "timeout" if passed is None else "survived" if passed else "killed"


def _passes(mutant: Mutant, tests: Sequence[str]) -> bool:
    _exchange(mutant.file, mutant.function, mutant.code(Path(_source_path(mutant.file))))
    return _pytest("-x", *tests) == 0


def _exchange(file: str, function: str, code: CodeType) -> None:
    """Give a function that has been imported another body, and those made within it, wherever they are known by now."""
    path = _source_path(file)
    gc.unfreeze()  # what the tests' settings have frozen is not among the objects
    found = list(codes(code))
    times = Counter(map(_place_of, found))
    bodies = {_place_of(each): each for each in found if times[_place_of(each)] == 1}  # two lambdas may share a line
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and os.path.realpath(each.__code__.co_filename) == path:
            body = bodies.get(_place_of(each.__code__))
            if body is not None and body.co_freevars == each.__code__.co_freevars:
                each.__code__ = body


def _place_of(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _source_path(file: str) -> str:
    return os.path.realpath(ROOT / file)


def _pytest(*arguments: str, plugin: object | None = None) -> int:
    quiet = ("-q", "-p", "no:cacheprovider", "-n", "0", "--no-header", "--no-summary", "--tb=no")
    return int(pytest.main([*quiet, *arguments], plugins=[plugin] if plugin else []))


class _Calls:
    """A pytest plugin that notes which of some functions each test calls, and how long it takes.

    What is called while fixtures are set up is counted for all tests of that file.
    """

    def __init__(self, functions: set[tuple[str, str]]) -> None:
        self._functions = functions
        self._now: set[str] = set()
        self.tests: dict[str, set[str]] = defaultdict(set)
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: list[str] = []
        self._set_up: dict[str, set[str]] = defaultdict(set)

    def recorded(self, files: Sequence[str]) -> dict[str, Any]:
        """Run the files' tests and give what was noted, as JSON has it."""
        vars(builtins)["called_function"] = self._now.add
        for file, function in self._functions:
            _exchange(file, function, with_first_statement(Path(_source_path(file)), function, f"{file}:{function}"))
        _pytest(*files, plugin=self)
        for file, functions in self._set_up.items():
            for function in functions:
                self.tests[function] |= {test for test in self.seconds if test.startswith(f"{file}::")}
        tests = {function: sorted(names) for function, names in self.tests.items()}
        return {"tests": tests, "seconds": self.seconds, "failed": self.failed}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.append(report.nodeid)
        if report.when == "setup":
            self._set_up[report.nodeid.split("::")[0]] |= self._now
        for function in self._now:
            self.tests[function].add(report.nodeid)
        self._now.clear()


@contextmanager
def _result_of(work: Any, limit_s: float) -> Iterator[Any]:
    """What a function gives in a forked process; None if it takes too long or its process dies."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(reading)
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1), os.dup2(silent, 2)
        try:
            result = json.dumps(work())
        except BaseException:  # a fault may raise anything
            result = json.dumps(False)
        with os.fdopen(writing, "w") as pipe:
            pipe.write(result)
        os._exit(0)
    os.close(writing)
    timer = threading.Timer(limit_s, os.killpg, (child, signal.SIGKILL))
    timer.start()
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    timer.cancel()
    os.waitpid(child, 0)
    yield json.loads(text) if text else None


def _print_table(results: Sequence[tuple[Mutant, str]]) -> None:
    by_file: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant, verdict in results:
        by_file[mutant.file][verdict] += 1
        by_file["all"][verdict] += 1
    print(f"\n{'file':58} {'mutants':>7} {'killed':>7} {'survived':>8} {'uncalled':>8}")
    for file, counts in sorted(by_file.items(), key=lambda item: (item[0] == "all", item[0])):
        total, killed = counts.total(), counts["killed"] + counts["timeout"]
        print(f"{file:58} {total:>7} {killed / total:>7.0%} {counts['survived']:>8} {counts['uncalled']:>8}")
    for mutant, verdict in results:
        if verdict in ("survived", "uncalled"):
            print(f"{verdict}: {mutant.name}")


if __name__ == "__main__":
    main()
