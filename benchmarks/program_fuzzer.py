"""Fuzz the evaluator of chart programs: nothing but its own errors may escape, and none may take 1 s or 64 MB.

    python benchmarks/program_fuzzer.py                           10 minutes
    python benchmarks/program_fuzzer.py --minutes 1 --seed 7      shorter, others

Programs are random ones of the allowed grammar, most of which fail early, and calculations, which go on for longer;
both have values that are sometimes huge. Others are hostile and valid programs with lines, tokens or characters
exchanged, repeated or removed, and random characters. Each batch runs in a child process
that may not have more than a fixed amount of address space, so that a bomb is found and hurts nobody. Memory is what
Python allocates during one evaluation, at its peak; it is measured in every tenth program and in every hostile one, as
measuring takes several times as long. Time is measured in all others.

The exit code is 1 if anything else than `ProgramRefused` or `ProgramFailed` escaped, be it a warning, if a child died,
or if a program took 1 s in each of three tries, or 64 MB. The programs are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.hostile_programs import HOSTILE, text_of
from tm_export.runtime.apps.charts.programs.errors import ProgramFailed, ProgramRefused
from tm_export.runtime.apps.charts.programs.methods import METHOD_NAMES
from tm_export.runtime.apps.charts.programs.numpy_functions import NUMPY_FUNCTIONS
from tm_export.runtime.apps.charts.programs.program_answer import program_answer
from tm_export.runtime.apps.charts.programs.python_functions import PYTHON_FUNCTIONS

MOST_SECONDS: Final = 1.0
MOST_BYTES: Final = 64 * 2**20
ADDRESS_SPACE: Final = 1 << 30
"""Of a child: Python itself, this file and 64 MB fit in it many times."""

BATCH: Final = 2_000
TRIES: Final = 3
MEASURED: Final = 10
"""Memory is measured in one of so many programs."""

VALID: Final = (
    text_of("Y=[12, 5, 9]", "Answer=np.sum(Y)"),
    text_of("X=['2019', '2020']", "Y=[3.5, 1.25]", "Answer=X[np.argmin(Y)]"),
    text_of("Y=np.array([1, 5, 9])", "X=np.array(['a', 'b', 'c'])", "Answer=X[np.where(Y==5)]"),
    text_of("d={'a': 3, 'b': 4}", "Answer=[k for k, v in d.items() if v==max(d.values())]"),
    text_of("Y=[3, 1, 2]", "Y.sort()", "Y.append(9)", "a, b=Y[0], Y[-1]", "Answer=round(b/a*100, 2)"),
    text_of("s='a,b'.split(',')", "Answer=sorted(set(s), reverse=True)[0].upper()*3"),
    text_of("x=2", "x**=3; x//=3", "Answer='Yes' if 1<x<=5 and not x in (3, 4) else 'No'"),
)
SEEDS: Final = (*VALID, *(text for texts in HOSTILE.values() for text in texts if len(text) < 20_000))
NAMES: Final = ("x", "y", "Y", "Answer")
VALUES: Final = (
    *(
        "0",
        "1",
        "-1",
        "2",
        "7",
        "2.5",
        "1e308",
        "-1e-300",
        "10**300",
        "2**1023",
        "10**9",
        "2000",
        "31",
        "0.0",
        "np.nan",
    ),
    *("np.inf", "np.pi", "True", "False", "None", "''", "'a'", "'a'*900", "'%d'", "'nan'", "'9'*300", "[]", "()", "{}"),
    *(
        "[0]*1900",
        "range(1500)",
        "[2**1000]*900",
        "np.array([1, 2, 3])",
        "np.array(['a', 'b'])",
        "np.array([])",
        "{1, 2}",
    ),
    *(
        "[[1, 2], [3]]",
        "np.array(range(1000))",
        "np.array([True, False])",
        "{'a': 1}",
        "set(range(200))",
        "[1, 'a', None]",
    ),
    *("x", "y", "Y", "Y", "x"),
)
SIGNS: Final = (
    *("+", "-", "*", "/", "//", "%", "**", "&", "|", "<", "<=", ">", ">=", "==", "!="),
    *(" in ", " not in ", " and ", " or "),
)
KEYWORDS: Final = ("", "", "", ", axis=0", ", reverse=True", ", ndigits=2", ", decimals=-3", ", ddof=1", ", start=1")
REDUCTIONS: Final = (
    *("sum", "mean", "median", "max", "min", "argmax", "argmin", "std"),
    *("var", "prod", "ptp", "count_nonzero", "any", "all"),
)
FRAGMENTS: Final = (
    *("(", ")", "[", "]", "{", "}", ",", ":", ";", ".", "'", '"', "\\", "#", "=", "**", "lambda x:", "import os", "\0"),
    *(
        "__class__",
        "10**9",
        "9" * 400,
        " for x in range(1000)",
        " if 1 else ",
        "not ",
        "-" * 50,
        "(" * 20,
        "é",
        "\ud800",
    ),
    *("<step>", "</step>", "<comment>", "\n", "\r", "\t", "f'", "b'", "await ", "*", "@", "~", ":=", "...", "1j", "0x"),
)


@dataclass
class Found:
    """What a batch, or all, came to; `bad` holds what is wrong and the program."""

    programs: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    seconds: tuple[float, str] = (0.0, "")
    bytes: tuple[int, str] = (0, "")
    measured: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)

    def add(self, other: Found) -> None:
        self.programs += other.programs
        self.ends += other.ends
        self.seconds = max(self.seconds, other.seconds)
        self.bytes = max(self.bytes, other.bytes)
        self.measured += other.measured
        self.bad += other.bad


def found_from(told: dict[str, Any]) -> Found:
    """What a child has told."""
    return Found(
        told["programs"],
        Counter(told["ends"]),
        (told["seconds"][0], told["seconds"][1]),
        (told["bytes"][0], told["bytes"][1]),
        told["measured"],
        [(what, text) for what, text in told["bad"]],
    )


def expression(draw: random.Random, depth: int) -> str:
    """A random expression of the grammar."""
    if depth == 0:
        return draw.choice(VALUES)

    def one() -> str:
        return expression(draw, draw.randrange(depth))

    def several() -> str:
        return ", ".join(one() for _ in range(draw.randrange(4)))

    kinds: tuple[Callable[[], str], ...] = (
        lambda: f"({one()}{draw.choice(SIGNS)}{one()})",
        lambda: f"({one()}{draw.choice(SIGNS)}{one()})",
        lambda: f"({draw.choice(('-', '+', 'not '))}{one()})",
        lambda: f"[{several()}]",
        lambda: f"({several()},)",
        lambda: f"{{{one()}, {one()}}}",
        lambda: f"{{{one()}: {one()}, {one()}: {one()}}}",
        lambda: f"({one()} if {one()} else {one()})",
        lambda: f"({one()}<{one()}<={one()})",
        lambda: f"{one()}[{one()}]",
        lambda: f"{one()}[{one()}:{one()}:{one()}]",
        lambda: f"[{one()} for x in {one()}]",
        lambda: f"[{one()} for x in {one()} for y in {one()} if {one()}]",
        lambda: f"np.{draw.choice(list(NUMPY_FUNCTIONS))}({one()}{draw.choice(KEYWORDS)})",
        lambda: f"np.{draw.choice(list(NUMPY_FUNCTIONS))}({one()}, {one()})",
        lambda: f"np.where({one()}, {one()}, {one()})",
        lambda: f"{draw.choice(list(PYTHON_FUNCTIONS))}({one()}{draw.choice(KEYWORDS)})",
        lambda: f"{draw.choice(list(PYTHON_FUNCTIONS))}({several()})",
        lambda: f"{one()}.{draw.choice(sorted(METHOD_NAMES))}({several()})",
    )
    return draw.choice(kinds)()


def of_the_grammar(draw: random.Random) -> str:
    """A program of the grammar; a step may be there many times."""
    steps = ["x=[1, 2]", "y=3"]
    for _ in range(draw.randint(1, 6)):
        value = expression(draw, draw.randint(1, 4))
        statement = draw.choice(
            (f"{draw.choice(NAMES)}={value}", f"{draw.choice(NAMES)}{draw.choice('+-*/%')}={value}", value)
        )
        steps += [statement] * draw.choice((1, 1, 1, 1, 3, 30))
    return text_of(*steps, f"Answer={expression(draw, 2)}")


def number(draw: random.Random, depth: int) -> str:
    """A random expression whose value is most likely a number."""
    if depth == 0:
        return draw.choice(("x", "y", "7", "2.5", "-3", "1e9", "10**30", "2**900", "True"))
    one, other = number(draw, draw.randrange(depth)), number(draw, draw.randrange(depth))
    values = collection(draw, draw.randrange(depth))
    kinds = (
        f"({one}{draw.choice(('+', '-', '*', '/', '//', '%', '**', '<', '>=', '=='))}{other})",
        f"({one} if {other}>{one} else {other})",
        f"{draw.choice(('abs', 'round', 'float', 'int', 'bool', 'np.sqrt', 'np.floor', 'np.round', 'np.exp'))}({one})",
        f"{draw.choice(('sum', 'max', 'min', 'len', 'any', 'all'))}({values})",
        f"np.{draw.choice(REDUCTIONS)}({values})",
        f"{values}[{draw.choice(('0', '-1', one))}]",
        f"({one} in {values})",
    )
    return draw.choice(kinds)


def collection(draw: random.Random, depth: int) -> str:
    """A random expression whose value is most likely a collection of numbers, sometimes a large one."""
    if depth == 0:
        return draw.choice(
            ("Y", "Y", "[3, 1, 2]", "[2.5, x]", "range(9)", "range(1999)", "[7]*1500", "(1, 2)", "[2**999]*9")
        )
    one, other = collection(draw, draw.randrange(depth)), collection(draw, draw.randrange(depth))
    scalar = number(draw, draw.randrange(depth))
    sign = draw.choice(("+", "-", "*", "/", "//", "%", "**", "<", ">=", "=="))
    kinds = (
        f"(np.array({one}){sign}{scalar})",
        f"(np.array({one}){sign}{other})",
        f"[{scalar} for x in {one}]",
        f"[{scalar} for x in {one} for y in {other} if {scalar}]",
        f"({one}+{other})",
        f"{one}[{draw.choice(('1:', ':-1', '::-1', '::2', '0:99999'))}]",
        f"np.array({one})[np.array({one})>{scalar}]",
        f"np.where(np.array({one})>{scalar}, {other}, {scalar})",
        f"np.{draw.choice(('sort', 'cumsum', 'diff', 'unique', 'argsort', 'square', 'abs', 'sqrt', 'round'))}({one})",
        f"np.{draw.choice(('add', 'power', 'multiply', 'maximum', 'divide', 'less'))}({one}, {other})",
        f"{draw.choice(('list', 'tuple', 'sorted', 'reversed', 'set'))}({one})",
        f"[sum(x) for x in zip({one}, {other})]",
        f"dict(zip({one}, {other})).{draw.choice(('keys', 'values'))}()",
    )
    return draw.choice(kinds)


def of_numbers(draw: random.Random) -> str:
    """A program that calculates: most of its steps have a value, which may grow from step to step."""
    steps = ["x=3", "y=2.5", "Y=[4, 1.5, 9, 9]"]
    for _ in range(draw.randint(1, 5)):
        if draw.random() < 0.5:
            step = f"{draw.choice('xy')}={number(draw, draw.randint(1, 4))}"
        else:
            step = f"Y={collection(draw, draw.randint(1, 4))}"
        steps += [step] * draw.choice((1, 1, 1, 2, 20))
    return text_of(*steps, f"Answer={draw.choice((number, collection))(draw, 3)}")


def mutated(draw: random.Random) -> str:
    """A program that is known, valid or hostile, changed in up to five places."""
    text = draw.choice(draw.choice((VALID, SEEDS, SEEDS)))
    for _ in range(draw.randint(1, 5)):
        start = draw.randrange(len(text) + 1)
        end = min(len(text), start + draw.randrange(20))
        other = draw.choice(SEEDS)
        beyond = draw.randrange(len(other) + 1)
        text = draw.choice(
            (
                text[:start] + text[end:],
                text[:start] + draw.choice(FRAGMENTS) + text[start:],
                text[:start] + text[start:end] * draw.choice((2, 10, 100)) + text[end:],
                text[:start] + expression(draw, 2) + text[end:],
                text[:start] + other[beyond : beyond + draw.randrange(60)] + text[end:],
                "\n".join(draw.sample(lines := text.split("\n"), len(lines))) if len(text) < 5_000 else text,
            )
        )
    return text


def of_anything(draw: random.Random) -> str:
    """Characters of any kind, in a step or not."""
    alphabet = draw.choice(("()[]{}+-*/,.:'\"\\ 0179aexn_=<>#\n", "".join(map(chr, range(256))), ""))
    length = draw.choice((3, 30, 300))
    if alphabet:
        noise = "".join(draw.choices(alphabet, k=length))
    else:
        noise = "".join(chr(draw.randrange(0x110000)) for _ in range(length))
    return draw.choice((noise, text_of(noise), text_of(f"Answer={noise}"), text_of(f"Answer='{noise}'")))


KINDS: Final[Sequence[Callable[[random.Random], str]]] = (of_the_grammar, of_numbers, of_numbers, mutated, of_anything)


def end_of(text: str) -> str:
    """How an evaluation ends; what escapes from it, a warning too, is told by name."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            program_answer(text)
            end = "answered"
        except ProgramRefused:
            end = "refused"
        except ProgramFailed:
            end = "failed"
        except BaseException as error:  # whatever it is, it is what is looked for
            end = f"escaped: {type(error).__name__}: {error}"[:500]
    return f"escaped: {warned[0].message}" if warned else end


def evaluate(text: str, found: Found, *, measure_memory: bool) -> None:
    """Evaluates one program, and notes how it ended and what it took."""
    if measure_memory:
        tracemalloc.start()
        end = end_of(text)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        found.measured += 1
        found.bytes = max(found.bytes, (peak, text))
        if peak > MOST_BYTES:
            found.bad.append((f"took {peak} bytes", text))
    else:
        start = time.perf_counter()
        end = end_of(text)
        taken = time.perf_counter() - start
        for _ in range(TRIES - 1):  # the machine may have stopped for a moment
            if taken > MOST_SECONDS:
                start = time.perf_counter()
                end_of(text)
                taken = min(taken, time.perf_counter() - start)
        found.seconds = max(found.seconds, (taken, text))
        if taken > MOST_SECONDS:
            found.bad.append((f"took {taken:.2f} s", text))
    found.programs += 1
    found.ends[end.split(":")[0]] += 1
    if end.startswith("escaped"):
        found.bad.append((end, text))


def run_batch(seed: int, deadline: float) -> Found:
    """Runs a batch in a child process; if it dies, the program it had reached is what is found."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        _run_and_exit(seed, deadline, writes)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        sent = pipe.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        return Found(bad=[(f"child of seed {seed} ended with {code}", "")])
    return found_from(json.loads(sent))


def _run_and_exit(seed: int, deadline: float, writes: int) -> NoReturn:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    draw, found = random.Random(seed), Found()
    for number in range(BATCH):
        if time.monotonic() > deadline:
            break
        evaluate(draw.choice(KINDS)(draw), found, measure_memory=number % MEASURED == 0)
    with os.fdopen(writes, "w") as pipe:
        json.dump(vars(found), pipe)
    os._exit(0)


def fuzz(minutes: float, seed: int) -> Found:
    """Runs the hostile programs once, and then batches until the time is up."""
    deadline = time.monotonic() + 60 * minutes
    total = Found()
    for texts in HOSTILE.values():
        for text in texts:
            evaluate(text, total, measure_memory=True)
    batch = 0
    while time.monotonic() < deadline:
        total.add(run_batch(seed * 1_000_000 + batch, deadline))
        batch += 1
    return total


def shown(text: str) -> str:
    """The beginning of a program, on one line."""
    return repr(text[:300]) + ("…" if len(text) > 300 else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="(default 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the programs (default 0)")
    arguments = parser.parse_args()
    found = fuzz(arguments.minutes, arguments.seed)
    print(f"{found.programs} programs, seed {arguments.seed}: {dict(found.ends)}")
    print(f"slowest: {found.seconds[0]:.3f} s  {shown(found.seconds[1])}")
    print(f"most memory, of {found.measured}: {found.bytes[0] / 2**20:.2f} MB  {shown(found.bytes[1])}")
    print(f"escaped or over a bound: {len(found.bad)}")
    for what, text in found.bad:
        print(f"  {what}\n    {text!r}")
    return 1 if found.bad else 0


if __name__ == "__main__":
    sys.exit(main())
