"""Damage bundles at random, run them with `tm-run`, and see that each damage is found and named before anything runs.

    python benchmarks/damage.py                               200 cases for each target
    python benchmarks/damage.py --cases 20 --target onnx      some

A case damages any file that the manifest lists, the manifest itself or its seal: a bit is flipped, the file cut off,
made longer, removed, exchanged for another one of the bundle, or led outside by a link. Other cases change what the
manifest says and seal it again, as a tool with a defect would: a path that leads outside, another schema version,
shapes and dtypes that disagree with the artifact. Changes that a seal makes consistent and that nothing contradicts
(`tool_versions`, `activation_bytes`) are no damage, and not among the cases.

Each case must end with the exit code of its kind and a message that names the file: 2, with no block opened; or 3 from
the engine, where a sealed manifest says of one block what only its artifact contradicts: that is found when the block's
turn comes. Any other code, a traceback or a signal is printed, and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

sys.path.insert(0, str(Path(__file__).parent))

from stacked_model import BLOCK_BUDGET

from tm_export.exporters.targets.base import target_names
from tm_export.runtime import errors
from tm_export.runtime.cli import run as cli_run
from tm_export.runtime.engines import engines_for
from tm_export.runtime.loading import process_budget
from tm_export.runtime.manifest import MANIFEST_NAME, SCHEMA_VERSION, SEAL_NAME, read_manifest, seal_of

MODEL: Final = f"{Path(__file__).parent / 'stacked_model.py'}:build"
OPENED: Final = 99
"""The exit code that stands for a bundle that was opened although it is damaged."""


@dataclass(frozen=True)
class Damage:
    """What was done to a bundle: to which file, and the exit code that it must lead to."""

    file: str
    code: int = errors.USAGE


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code (negative: the signal that killed it), and what it printed."""

    code: int
    out: str
    err: str


Kind = Callable[[Path, random.Random], Damage]


def any_file(bundle: Path, draw: random.Random) -> str:
    return draw.choice([MANIFEST_NAME, SEAL_NAME, *(entry.path for entry in read_manifest(bundle).files)])


def flip_a_bit(bundle: Path, draw: random.Random) -> Damage:
    name = any_file(bundle, draw)
    content = bytearray((bundle / name).read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    (bundle / name).write_bytes(content)
    return Damage(name)


def cut_off(bundle: Path, draw: random.Random) -> Damage:
    name = any_file(bundle, draw)
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[: draw.randrange(len(content))])
    return Damage(name)


def append(bundle: Path, draw: random.Random) -> Damage:
    name = any_file(bundle, draw)
    with (bundle / name).open("ab") as file:
        file.write(draw.randbytes(draw.randint(1, 5000)))
    return Damage(name)


def remove(bundle: Path, draw: random.Random) -> Damage:
    name = any_file(bundle, draw)
    (bundle / name).unlink()
    return Damage(name)


def swap(bundle: Path, draw: random.Random) -> Damage:
    """Exchange two files; the first of them in the order of the manifest is to be named."""
    names = [entry.path for entry in read_manifest(bundle).files]
    contents = {name: (bundle / name).read_bytes() for name in names}
    pairs = [(one, other) for one in names for other in names if one < other and contents[one] != contents[other]]
    one, other = draw.choice(pairs)
    (bundle / one).write_bytes(contents[other])
    (bundle / other).write_bytes(contents[one])
    return Damage(one)


def lead_outside(bundle: Path, draw: random.Random) -> Damage:
    name = draw.choice([entry.path for entry in read_manifest(bundle).files])
    outside = bundle.with_name("outside")
    (bundle / name).rename(outside)
    (bundle / name).symlink_to(outside)
    return Damage(name)


def seal(bundle: Path, value: Mapping[str, Any]) -> None:
    """Write a manifest, whatever it says, and a seal that fits it."""
    content = json.dumps(value).encode()
    (bundle / MANIFEST_NAME).write_bytes(content)
    (bundle / SEAL_NAME).write_bytes(seal_of(content))


def state_a_path_outside(bundle: Path, draw: random.Random) -> Damage:
    value = json.loads((bundle / MANIFEST_NAME).read_bytes())
    outside = draw.choice(["../outside", "/etc/hostname", "model/../../outside", "C:\\outside", "model\\..\\outside"])
    block = draw.choice(value["components"][0]["blocks"])
    places: list[tuple[Any, Any]] = [(draw.choice(value["files"]), "path"), (block["variants"][0], "artifact")]
    places += [(block["files"], 0), (value["golden"][0], "inputs")]
    holder, key = draw.choice(places)
    holder[key] = outside
    seal(bundle, value)
    return Damage(MANIFEST_NAME)


def state_another_schema_version(bundle: Path, draw: random.Random) -> Damage:
    value = json.loads((bundle / MANIFEST_NAME).read_bytes())
    value["schema_version"] = draw.choice(
        [0, 1, SCHEMA_VERSION + 1, 99, -2, 2.5, str(SCHEMA_VERSION), None, True, [SCHEMA_VERSION]]
    )
    seal(bundle, value)
    return Damage(MANIFEST_NAME)


def _wider(spec: dict[str, Any]) -> None:
    spec["shape"] = [*spec["shape"][:-1], spec["shape"][-1] + 1]


def _shorter(spec: dict[str, Any]) -> None:
    spec["shape"] = spec["shape"][1:]


def _of_another_dtype(spec: dict[str, Any]) -> None:
    spec["dtype"] = {"float32": "float16"}.get(spec["dtype"], "float32")


CHANGES: Final = (_wider, _shorter, _of_another_dtype)


def contradict_one_call(bundle: Path, draw: random.Random) -> Damage:
    """A block's input or output is not the value that is read or written there: the manifest contradicts itself."""
    value = json.loads((bundle / MANIFEST_NAME).read_bytes())
    variant = draw.choice(draw.choice(value["components"][0]["blocks"])["variants"])
    draw.choice(CHANGES)(draw.choice(variant[draw.choice(["inputs", "outputs"])]))
    seal(bundle, value)
    return Damage(MANIFEST_NAME)


def contradict_an_artifact(bundle: Path, draw: random.Random) -> Damage:
    """A value that one block writes and others read is stated otherwise throughout: only artifacts contradict it."""
    value = json.loads((bundle / MANIFEST_NAME).read_bytes())
    component = value["components"][0]
    way = draw.choice(component["variants"])
    functions = {
        block["name"]: next(one for one in block["variants"] if one["name"] == way["name"])
        for block in component["blocks"]
    }
    writer = draw.choice(way["calls"])
    name = draw.choice(writer["writes"])
    change = draw.choice(CHANGES)
    for call in way["calls"]:
        function = functions[call["block"]]
        places = zip((*call["reads"], *call["writes"]), (*function["inputs"], *function["outputs"]), strict=True)
        for read, spec in places:
            if read == name:
                change(spec)
    for spec in way["outputs"]:
        if spec["name"] == name:
            change(spec)
    seal(bundle, value)
    return Damage(functions[writer["block"]]["artifact"], errors.REFUSED)


KINDS: Final[Mapping[str, tuple[Kind, int]]] = {
    "bit flipped": (flip_a_bit, 8),
    "cut off": (cut_off, 4),
    "bytes appended": (append, 2),
    "removed": (remove, 2),
    "swapped": (swap, 4),
    "link outside": (lead_outside, 1),
    "path outside": (state_a_path_outside, 2),
    "schema version": (state_another_schema_version, 1),
    "shape or dtype of one call": (contradict_one_call, 2),
    "shape or dtype of the artifact": (contradict_an_artifact, 4),
}
"""Each kind, and how often it is drawn."""


def run(bundle: Path, *, may_open: bool) -> Ended:
    """Run a bundle in a child process, where a crash is seen and hurts nobody else."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _run_and_exit(bundle, out.fileno(), err.fileno(), may_open=may_open)
        _, status = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        return Ended(os.waitstatus_to_exitcode(status), out.read().decode(), err.read().decode())


def _run_and_exit(bundle: Path, out: int, err: int, *, may_open: bool) -> NoReturn:
    os.dup2(out, 1)
    os.dup2(err, 2)
    if not may_open:
        process_budget.Loader = lambda *_, **__: os._exit(OPENED)  # type: ignore[assignment, misc]
    code = cli_run.main([str(bundle)])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def problem(damage: Damage, ended: Ended) -> str | None:
    """What is wrong with how a damaged bundle's run ended."""
    message = next((line for line in ended.err.splitlines() if line.startswith("tm-run: error: ")), "")
    if ended.code == OPENED:
        return "was opened"
    if ended.code != damage.code:
        return f"ended with {ended.code}, not {damage.code}: {message or ended.err[-300:]}"
    if "Traceback" in ended.err or ended.out:
        return f"printed {ended.out!r} {ended.err!r}"
    return None if damage.file in message else f"is not named: {message}"


def measure(target: str, cases: int, seed: int) -> bool:
    """Damage one target's bundle, and print what was found; returns whether all was."""
    draw = random.Random(seed)
    engines_for(target)  # imported once, before the children are forked
    with tempfile.TemporaryDirectory(prefix="damage-") as folder:
        command = [sys.executable, "-m", "tm_export.exporters.cli.command", "-m", MODEL, "--target", target]
        command += ["--block-budget", BLOCK_BUDGET, "-o", folder, "--json"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (whole,) = Path(folder).iterdir()
        healthy = run(whole, may_open=True)
        if healthy.code != errors.OK:
            raise SystemExit(f"the bundle without damage ended with {healthy.code}: {healthy.err}")
        drawn: Counter[str] = Counter()
        missed: Counter[str] = Counter()
        for i in range(cases):
            (name,) = draw.choices(list(KINDS), [weight for _, weight in KINDS.values()])
            bundle = Path(folder) / f"case-{i}" / whole.name
            shutil.copytree(whole, bundle)
            damage = KINDS[name][0](bundle, draw)
            found = problem(damage, run(bundle, may_open=damage.code != errors.USAGE))
            drawn[name] += 1
            if found is not None:
                missed[name] += 1
                print(f"{target} case {i}: {name}: {damage.file} {found}", flush=True)
            shutil.rmtree(bundle.parent)
    print(f"{target}: seed {seed}")
    for name in KINDS:
        print(f"  {name:30}  {drawn[name] - missed[name]:4} of {drawn[name]:4} found and named")
    print(f"{target}: {cases - missed.total()} of {cases} found and named\n", flush=True)
    return not missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200, help="for each target (default 200)")
    parser.add_argument("--target", action="append", choices=target_names(), help="may be repeated; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the cases (default 0)")
    arguments = parser.parse_args()
    good = [measure(target, arguments.cases, arguments.seed) for target in arguments.target or target_names()]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
