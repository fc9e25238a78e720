"""Export all of On-device Sora at full size, and say what it took.

    python benchmarks/full_size.py --checkpoint DIR --out DIR --target onnx
    python benchmarks/full_size.py --checkpoint DIR --out DIR --target coreml --component text_encoder

The checkpoint is made first, with synthetic weights, if the folder does not exist (12.4 GB). One `tm-export` exports
all networks, or those that are named. Reported of it:

- peak RSS, summed over the process tree twenty times a second; pages that several processes share count in each. Beside
  it the peak PSS, in which each of them counts once, looked at twice a second;
- wall time, and beside it the time that writing the same bytes to the same disk takes, flushed;

and for each network:

- how many programs the blocks are, and how often a converter ran;
- bytes of weights for all variants, against what one variant needs;
- seconds of each stage.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

MODEL = "ondevice-sora-144p"
# What a block may take: so much that an operator with its activations fits, and no more, since a conversion takes
# about six times a block's weights in fp32.
# T5's table of tokens takes 526 MB in 32 bits, and no cut divides an operator.
BUDGETS = {"text_encoder": "540MB", "denoiser": "340MB", "vae_temporal": "300MB", "vae_spatial": "600MB"}
# Weights that are stored in 16 bits take half, and while they are used another copy of 32 bits.
NARROW_BUDGETS = BUDGETS | {"text_encoder": "480MB"}
# A disk need not have room for the bundle twice.
_PIECE = 1 << 31


@dataclass(frozen=True)
class Network:
    name: str
    blocks: int
    programs: int
    conversions: int
    weight_bytes: int
    one_variant_bytes: int
    stages: dict[str, float]


@dataclass(frozen=True)
class Result:
    target: str
    networks: tuple[Network, ...]
    bundle_bytes: int
    seconds: float
    seconds_to_write_as_much: float
    peak_tree_rss_bytes: int
    peak_tree_pss_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--component", action="append", choices=list(BUDGETS))
    parser.add_argument("--frames", default="68", help="of the video")
    parser.add_argument("--verify", default="converted")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not arguments.checkpoint.exists():
        make = [sys.executable, "-m", "tm_export.models.synthesize", MODEL, "--out", arguments.checkpoint]
        subprocess.run([*map(str, make), "--dtype", "float16"], check=True)
    result = measure(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(result), indent=2))
    for network in result.networks:
        print(
            f"{network.name}: {network.weight_bytes / 1e9:.2f} GB of artifacts, "
            f"{network.weight_bytes / max(1, network.one_variant_bytes):.3f} of one variant's weights, in "
            f"{network.blocks} blocks of {network.programs} programs, {network.conversions} conversions; "
            f"{network.stages}"
        )
    print(
        f"{result.target}: {result.bundle_bytes / 1e9:.2f} GB in {result.seconds:.0f} s, writing as much "
        f"{result.seconds_to_write_as_much:.0f} s; peak RSS of the tree {result.peak_tree_rss_bytes / 1e9:.2f} GB, "
        f"PSS {result.peak_tree_pss_bytes / 1e9:.2f} GB"
    )


def measure(arguments: argparse.Namespace) -> Result:
    command = [
        *(str(Path(sys.executable).with_name("tm-export")), "-m", MODEL, "--checkpoint", str(arguments.checkpoint)),
        *("--target", arguments.target, "-o", str(arguments.out), "--verify", arguments.verify, "--no-resume"),
        *("--frames", arguments.frames),
    ]
    for component in arguments.component or ():
        command += ["--component", component]
    narrow = arguments.target != "executorch"  # whose XNNPACK has no products of fp32 with fp16
    command += ["--weights", "fp16"] if narrow else []
    for component in arguments.component or BUDGETS:
        command += ["--block-budget", f"{component}={(NARROW_BUDGETS if narrow else BUDGETS)[component]}"]
    began = time.monotonic()
    process = subprocess.Popen(command)
    watch = TreeWatch(process.pid)
    code = process.wait()
    seconds = time.monotonic() - began
    peak, peak_pss = watch.stop()
    if code:
        raise SystemExit(f"{' '.join(command)} ended with exit code {code}, peak RSS of the tree {peak / 1e9:.2f} GB")
    bundle = arguments.out / f"{MODEL}-{arguments.target}"
    report = json.loads((bundle / "reports" / "export.json").read_bytes())
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    sizes = {file["path"]: file["bytes"] for file in manifest["files"]}
    networks = tuple(
        Network(
            name=blocks["component"],
            blocks=blocks["blocks"],
            programs=blocks["programs"],
            conversions=blocks["conversions"],
            weight_bytes=sum(sizes[path] for block in described["blocks"] for path in block["files"]),
            one_variant_bytes=sum(block["weight_bytes"] for block in described["blocks"]),
            stages=stages_of(report, blocks["component"]),
        )
        for blocks, described in zip(report["blocks"], manifest["components"], strict=True)
    )
    size = sum(sizes.values())
    return Result(
        target=arguments.target,
        networks=networks,
        bundle_bytes=size,
        seconds=seconds,
        seconds_to_write_as_much=seconds_to_write(size, arguments.out / "written"),
        peak_tree_rss_bytes=peak,
        peak_tree_pss_bytes=peak_pss,
    )


def stages_of(report: dict[str, Any], component: str) -> dict[str, float]:
    """Seconds of each stage of one component."""
    seconds: dict[str, float] = {}
    for stage in report["stages"]:
        if stage["component"] == component:
            seconds[stage["stage"]] = seconds.get(stage["stage"], 0) + stage["seconds"]
    return {name: round(spent, 1) for name, spent in seconds.items()}


class TreeWatch:
    """Samples the resident memory of a process and all its descendants."""

    def __init__(self, pid: int) -> None:
        self._root, self._done = psutil.Process(pid), threading.Event()
        self._peak = self._peak_pss = 0
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        for sample in itertools.count():
            if self._done.wait(0.05):
                return
            try:
                processes = (self._root, *self._root.children(recursive=True))
                self._peak = max(self._peak, sum(each.memory_info().rss for each in processes))
                if sample % 10 == 0:
                    self._peak_pss = max(self._peak_pss, sum(each.memory_full_info().pss for each in processes))
            except psutil.NoSuchProcess:
                continue

    def stop(self) -> tuple[int, int]:
        """The peaks of RSS and PSS in bytes."""
        self._done.set()
        self._thread.join()
        return self._peak, self._peak_pss


def seconds_to_write(size: int, path: Path) -> float:
    """How long it takes to write so many bytes and flush them to disk: in files of `_PIECE` at most, one at a time."""
    chunk = os.urandom(1 << 24)
    began = time.monotonic()
    for begin in range(0, size, _PIECE):
        piece = min(_PIECE, size - begin)
        with path.open("wb") as file:
            for _ in range(piece // len(chunk)):
                file.write(chunk)
            file.write(chunk[: piece % len(chunk)])
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
    return time.monotonic() - began


if __name__ == "__main__":
    main()
