"""Export and verify every example, both cores and every model of the test zoo, on all three targets.

    python benchmarks/verify_everything.py                             all
    python benchmarks/verify_everything.py tomesd_unet --target onnx   some

Prints a line for each: whether it passed, the largest relative error, decisions, regions, seconds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.zoo import ZOO
from tm_export.exporters.bundle.staging import Staging
from tm_export.exporters.compile import compile_model
from tm_export.exporters.errors import ExportError
from tm_export.exporters.options import Effort, ExportOptions
from tm_export.exporters.record.progress import SilentProgress
from tm_export.exporters.source.model_source import ModelSource
from tm_export.exporters.source.module_source import source_of_module
from tm_export.exporters.source.named import source_of
from tm_export.exporters.targets.base import find_target, target_names

CORES = ("ondevice-sora-tiny", "tinychart-tiny")


def source(name: str) -> ModelSource:
    if name in CORES:
        return source_of(name, 0)
    module, inputs = ZOO[name]()
    return source_of_module(module, inputs, name)


def verify(name: str, target: str) -> str:
    began = time.monotonic()
    # In fp32: what is measured is the compiler, not the rounding of a precision.
    options = ExportOptions(precision="fp32")
    with tempfile.TemporaryDirectory() as folder:
        try:
            staging = Staging(Path(folder) / "new", Path(folder) / "work")
            staging.bundle.mkdir()
            staging.scratch.mkdir()
            chosen = find_target(target)
            report = compile_model(source(name), chosen, options, Effort(), staging, SilentProgress()).report
        except ExportError as error:
            return f"REFUSED {error}"
        except Exception as error:  # a defect; the others are to be seen all the same
            return f"CRASHED {error!r}"
    worst = max(record.relative_error for record in report.parity)
    passed = all(record.passed for record in report.parity)
    decisions = [(r.decisions, r.decisions_agreeing, r.decisions_tied) for r in report.parity if r.engine != "rewrite"]
    regions = "+".join(str(placement.regions) for placement in report.placement)
    seconds = time.monotonic() - began
    return (
        f"{'passed' if passed else 'FAILED'} error {worst:.1e} decisions {max(decisions)} "
        f"regions {regions} in {seconds:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[*CORES, *ZOO])
    parser.add_argument("--target", action="append", choices=target_names())
    arguments = parser.parse_args()
    for target in arguments.target or target_names():
        for name in arguments.models:
            print(f"{target:10} {name:22} {verify(name, target)}", flush=True)


if __name__ == "__main__":
    main()
