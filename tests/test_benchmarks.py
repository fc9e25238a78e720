"""Short versions of two proofs that are too long for the suite: what is killed goes on, and what is damaged is found."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def run(*argv: str) -> str:
    """What a script in `benchmarks/` prints, having ended well."""
    command = [sys.executable, str(BENCHMARKS / argv[0]), *argv[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_export_that_is_killed_and_gone_on_with_ends_in_the_same_bytes() -> None:
    said = run("kill_and_resume.py", "--kills", "3", "--target", "onnx")
    assert "onnx: 3 of 3 bundles are the same, byte for byte" in said
    *_, last, _summary, _ = said.splitlines()
    assert last.split()[0] == "2" and "all processes" in last
    assert last.split()[-4:] == ["6", "0", "the", "same"]  # killed when all was done: nothing is converted again


def test_damage_is_found_and_named_before_anything_runs() -> None:
    said = run("damage.py", "--cases", "20", "--target", "onnx")
    assert "onnx: 20 of 20 found and named" in said
