"""A short version of a proof that is too long for the suite: what is damaged is found."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def test_damage_is_found_and_named_before_anything_runs() -> None:
    command = [sys.executable, str(BENCHMARKS / "damage.py"), "--cases", "20", "--target", "onnx"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "onnx: 20 of 20 found and named" in done.stdout
