"""Kill exports with SIGKILL at random moments, go on, and compare every byte with an export that was not killed.

    python benchmarks/kill_and_resume.py                             30 kills for each target
    python benchmarks/kill_and_resume.py --kills 3 --target onnx     some

Every second time only the main process is killed: its workers must end by themselves, and not disturb the export that
goes on meanwhile. The last kill falls when the manifest is written, just before the bundle is moved into place. Prints
a line for each kill; exits with 1 if any file but the two that hold times differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent))

from stacked_model import BLOCK_BUDGET

from tm_export.exporters.targets.base import target_names
from tm_export.runtime.manifest import BundleError, read_manifest, verify_files

MODEL: Final = f"{Path(__file__).parent / 'stacked_model.py'}:build"
NAME: Final = "stacked_model-build"
HOLD_TIMES: Final = frozenset({"reports/export.json", "reports/index.html"})
WORKERS_END_WITHIN: Final = 10.0
"""Seconds; a server that is still importing for its workers has to finish that first."""


@dataclass(frozen=True)
class Export:
    """One way to export the model, to be run again and again."""

    target: str
    out: Path

    @property
    def bundle(self) -> Path:
        return self.out / f"{NAME}-{self.target}"

    @property
    def partial(self) -> Path:
        return self.out / f".{self.bundle.name}.partial"

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The export as the leader of a process group of its own."""
        command = [sys.executable, "-m", "tm_export.exporters.cli.command", "-m", MODEL, "--target", self.target]
        command += ["--block-budget", BLOCK_BUDGET, "-o", str(self.out), "--json"]
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
            yield process
            if process.returncode not in (0, -signal.SIGKILL):
                said.seek(0)
                raise SystemExit(f"the export ended with {process.returncode}: {said.read().decode()[-2000:]}")

    def finish(self) -> float:
        """Export to the end; returns the seconds."""
        began = time.monotonic()
        with self.running() as process:
            process.wait()
        return time.monotonic() - began

    def contents(self) -> dict[str, bytes]:
        """Every file of the bundle, but for what holds times."""
        files = {path.relative_to(self.bundle).as_posix(): path for path in self.bundle.rglob("*") if path.is_file()}
        return {name: path.read_bytes() for name, path in files.items() if name not in HOLD_TIMES}

    def conversions(self) -> int:
        """How often a converter ran in the export that ended."""
        (blocks,) = json.loads((self.bundle / "reports" / "export.json").read_bytes())["blocks"]
        return int(blocks["conversions"])


@dataclass(frozen=True)
class Killed:
    """What became of an export that was killed and gone on with."""

    seconds: float
    finished_blocks: int
    conversions: int
    problems: tuple[str, ...]


def kill(export: Export, is_time: Callable[[], bool], only_main: bool) -> tuple[float, int]:
    """Start an export and kill it when it is time; returns its seconds until then, and its process group."""
    began = time.monotonic()
    with export.running() as process:
        while process.poll() is None and not is_time():
            time.sleep(0.002)
        seconds = time.monotonic() - began
        if process.poll() is None:  # faster than the one that was timed: there is nothing left to kill
            (os.kill if only_main else os.killpg)(process.pid, signal.SIGKILL)
        process.wait()
    return seconds, process.pid


def trial(export: Export, is_time: Callable[[], bool], only_main: bool, wanted: dict[str, bytes]) -> Killed:
    """Kill an export, go on at once, and say what is not as it should be."""
    seconds, group = kill(export, is_time, only_main)
    problems = list(_half_a_bundle(export.bundle))
    finished = len(list((export.partial / "work" / "journal").glob("*.json")))
    export.finish()
    got = export.contents()
    problems += [f"{name} is missing" for name in sorted(wanted.keys() - got.keys())]
    problems += [f"{name} is too much" for name in sorted(got.keys() - wanted.keys())]
    problems += [f"{name} differs" for name in sorted(wanted.keys() & got.keys()) if wanted[name] != got[name]]
    problems += [f"{path.name} was left behind" for path in export.out.iterdir() if path != export.bundle]
    if not _ends(group):
        problems.append("workers of the killed export still run")
        os.killpg(group, signal.SIGKILL)
    return Killed(seconds, finished, export.conversions(), tuple(problems))


def _half_a_bundle(bundle: Path) -> Iterator[str]:
    """A problem, if there is something in the bundle's place that is no whole bundle."""
    if bundle.exists():
        try:
            verify_files(bundle, read_manifest(bundle))
        except BundleError as error:
            yield f"after the kill: {error}"


def _ends(group: int) -> bool:
    """Whether all processes of a group end in time."""
    began = time.monotonic()
    while time.monotonic() - began < WORKERS_END_WITHIN:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def when_the_manifest_is_written(export: Export) -> Callable[[], bool]:
    return (export.partial / "new" / "manifest.json").exists


def measure(target: str, kills: int, seed: int) -> bool:
    """Kill exports for one target, and print what became of them; returns whether all ended in the same bytes."""
    moments = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="kill_and_resume-") as folder:
        whole = Export(target, Path(folder) / "whole")
        whole_seconds = whole.finish()
        wanted = whole.contents()
        print(f"{target}: seed {seed}; {len(wanted)} files, {whole.conversions()} conversions in {whole_seconds:.1f} s")
        print("kill  of             after  blocks finished  converted again  bundle")
        bad = 0
        for i in range(kills):
            export = Export(target, Path(folder) / f"kill-{i}")
            is_last = i == kills - 1
            only_main = i % 2 == 1
            is_time = when_the_manifest_is_written(export) if is_last else after(moments.uniform(0, whole_seconds))
            found = trial(export, is_time, only_main, wanted)
            bad += bool(found.problems)
            killed = "main process" if only_main else "all processes"
            verdict = "; ".join(found.problems) or "the same"
            print(
                f"{i:4}  {killed:13}  {found.seconds:4.1f} s  {found.finished_blocks:15}  {found.conversions:15}  "
                f"{verdict}",
                flush=True,
            )
        print(f"{target}: {kills - bad} of {kills} bundles are the same, byte for byte\n", flush=True)
    return bad == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, help="for each target (default 30)")
    parser.add_argument("--target", action="append", choices=target_names(), help="may be repeated; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    arguments = parser.parse_args()
    good = [measure(target, arguments.kills, arguments.seed) for target in arguments.target or target_names()]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
