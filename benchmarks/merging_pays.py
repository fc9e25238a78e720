"""Does merging pay? Times exported merged models against exported unmerged ones, on both engines.

    python benchmarks/merging_pays.py                     all models
    python benchmarks/merging_pays.py vit-s --rounds 30   one of them

For each model artifacts are made (ONNX and ExecuTorch, unmerged and merged) and run in turn, round by round, in
one process with two threads; of two runs in each turn the second is timed. Printed: medians, the speed-up on each
engine, the ideal speed-up by multiply-adds, the two's ratio, and ExecuTorch's time over ONNX Runtime's. With
`--ceiling`, the ViTs are also run with tokens cut off instead of merged, without any matching: the same ratio for
these is the most that any way of merging could reach.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

Kind = Literal["full", "merged", "cut"]
Case = Callable[[Kind], tuple[nn.Module, tuple[Tensor, ...]]]


@dataclass(frozen=True)
class Timing:
    """Milliseconds of every round, by artifact."""

    samples: dict[str, list[float]]

    def ms(self, name: str) -> float:
        return median(self.samples[name])

    def ratio(self, above: str, below: str) -> float:
        """Median over the rounds of one artifact's time over another's."""
        pairs = zip(self.samples[above], self.samples[below], strict=True)
        return median(a / b for a, b in pairs)


def vit(channels: int, heads: int, r: int) -> Case:
    def build(kind: Kind) -> tuple[nn.Module, tuple[Tensor, ...]]:
        from vit import ViT

        torch.manual_seed(0)
        model = ViT(channels, 12, heads, 0 if kind == "full" else r, cut=kind == "cut")
        return model, (torch.randn(1, 3, 224, 224),)

    return build


def tower(kind: Kind) -> tuple[nn.Module, tuple[Tensor, ...]]:
    from tm_export.models.tinychart.components import build_vision_tower
    from tm_export.models.tinychart.presets import FULL

    config = replace(FULL, num_layers=4, tome_r=FULL.tome_r if kind == "merged" else 0)
    return build_vision_tower(config), (torch.randn(1, 3, config.image_size, config.image_size),)


def pair(kind: Kind) -> tuple[nn.Module, tuple[Tensor, ...]]:
    from tm_export.models.ondevice_sora.network.block import BlockPair
    from tm_export.models.ondevice_sora.presets import FULL

    config = replace(FULL, height=20, width=27, pixel_height=166, pixel_width=221)
    torch.manual_seed(0)
    C, length = config.hidden_size, 35
    inputs = (torch.randn(2, 2800, C), torch.randn(2, length, C), torch.randn(2, 6 * C) * 0.1, torch.ones(1, length))
    return BlockPair(config, kind), inputs


CASES: dict[str, Case] = {
    "vit-s": vit(384, 6, 13),
    "vit-b": vit(768, 12, 16),
    "tinychart-4-layers": tower,
    "stdit3-pair": pair,
}


def export(case: Case, kinds: Sequence[Kind], folder: Path) -> dict[str, int]:
    """Write the artifacts; returns the multiply-adds of each kind."""
    from tm_export.exporters.capture.capture import capture
    from tm_export.exporters.convert.worker import save_block, start_emission
    from tm_export.exporters.graph.macs import count_macs
    from tm_export.exporters.lowering.choose import lower_merges
    from tm_export.exporters.merging.raise_merges import raise_merges
    from tm_export.exporters.options import ExportOptions
    from tm_export.exporters.targets.base import Function, Signature, find_target

    options, macs = ExportOptions(), {}
    for name in kinds:
        module, inputs = case(name)
        captured = capture(module, inputs)
        macs[name] = count_macs(captured)
        raised = raise_merges(captured, 0).program
        names = Signature(tuple(f"x{i}" for i in range(len(inputs))), ("y",))
        np.savez(folder / f"{name}.npz", **{n: t.numpy() for n, t in zip(names.inputs, inputs, strict=True)})
        for target in map(find_target, ("onnx", "executorch")):
            program = target.legalize(lower_merges(raised, target.costs(options), options, half=False), options).program
            emission = start_emission(save_block({name: Function(program, names)}, folder), name, target, options)
            emission.wait()
            for made in emission.folder.iterdir():
                made.rename(folder / made.name)
            path = folder / target.artifact(name, name)
            placement = target.placement(path, target.function(name, 1))
            print(f"  {path.name}: {placement.regions} regions, outside {sum(placement.outside.values())}", flush=True)
    return macs


def measure(folder: Path, rounds: int, threads: int) -> Timing:
    """Run the artifacts in turn; in this process, which must not have run PyTorch."""
    import onnxruntime
    from executorch.extension.pybindings import _portable_lib

    _portable_lib._unsafe_reset_threadpool(threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Else its threads wait for more work, busily, while ExecuTorch runs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    runs: dict[str, Callable[[], object]] = {}
    keep = []
    for variant in sorted({path.stem for path in folder.glob("*.npz")}):
        arrays = dict(np.load(folder / f"{variant}.npz"))
        session = onnxruntime.InferenceSession(folder / variant / f"{variant}.onnx", options)
        method = _portable_lib._load_for_executorch(str(folder / f"{variant}.pte"))
        tensors = tuple(torch.from_numpy(array) for array in arrays.values())
        runs[f"onnx {variant}"] = lambda s=session, a=arrays: s.run(None, a)  # type: ignore[misc]
        runs[f"executorch {variant}"] = lambda m=method, t=tensors: m.forward(t)  # type: ignore[misc]
        keep.append((session, method))
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            run()  # The other artifacts have just filled the caches with their weights.
            began = time.perf_counter()
            run()
            samples[name].append((time.perf_counter() - began) * 1e3)
    return Timing(samples)


def report(name: str, timing: Timing, macs: dict[str, int]) -> dict[str, float | str]:
    ideal = macs["full"] / macs["merged"]
    row: dict[str, float | str] = {"model": name, "ideal": ideal}
    for engine in ("onnx", "executorch"):
        row[f"{engine} full ms"], row[f"{engine} merged ms"] = (
            timing.ms(f"{engine} full"),
            timing.ms(f"{engine} merged"),
        )
        row[f"{engine} speed-up"] = timing.ratio(f"{engine} full", f"{engine} merged")
        row[f"{engine} of ideal"] = timing.ratio(f"{engine} full", f"{engine} merged") / ideal
        if "cut" in macs:
            row[f"{engine} ceiling"] = timing.ratio(f"{engine} full", f"{engine} cut") / ideal
    for variant in ("full", "merged"):
        row[f"executorch/onnx {variant}"] = timing.ratio(f"executorch {variant}", f"onnx {variant}")
    row["onnx full GMAC/s"] = macs["full"] / timing.ms("onnx full") / 1e6
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ceiling", action="store_true", help="also time tokens cut off instead of merged (ViTs)")
    parser.add_argument("--folder", type=Path, help="keep artifacts here, and use those that are there")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    parser.add_argument("--measure-in", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure_in:
        print(json.dumps(measure(options.measure_in, options.rounds, options.threads).samples))
        return
    rows = []
    for name in options.models:
        with tempfile.TemporaryDirectory() as scratch:
            folder = (options.folder or Path(scratch)) / name
            print(name, flush=True)
            if not (folder / "macs.json").exists():
                folder.mkdir(parents=True, exist_ok=True)
                kinds: list[Kind] = ["full", "merged", *(["cut"] if options.ceiling and name.startswith("vit") else [])]
                (folder / "macs.json").write_text(json.dumps(export(CASES[name], kinds, folder)))
            arguments = [
                "--measure-in",
                str(folder),
                "--rounds",
                str(options.rounds),
                "--threads",
                str(options.threads),
            ]
            timed = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
            samples = json.loads(timed.stdout.splitlines()[-1])
            rows.append(report(name, Timing(samples), json.loads((folder / "macs.json").read_text())))
        for key, value in rows[-1].items():
            print(f"  {key:24} {value if isinstance(value, str) else round(value, 3)}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
