"""A model cut into blocks, run block by block in less memory than it takes whole, and measured.

    python examples/blocks_under_a_budget.py --out out/blocks

Six layers over a few frames of video, whose variant `merged` computes each MLP on means of two frames. The export cuts
them into blocks under a budget, and converts the layers once, since they differ in weights alone. The loader has room
for three blocks: it opens them ahead of their turn and closes others to make room, and the outputs are PyTorch's. Last,
`report.html` shows what was loaded and run when.
"""

import argparse
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

import tm_export
from tm_export.models.merging.frame_pairs import merge_frame_pairs, unmerge_frame_pairs
from tm_export.runtime.engines import choose_engine
from tm_export.runtime.loading.events import Event
from tm_export.runtime.loading.loader import Loader
from tm_export.runtime.measure.bundle_report import bench_bundle
from tm_export.runtime.measure.options import BenchOptions
from tm_export.runtime.measure.save import save_report
from tm_export.runtime.units import parse_size

LAYERS: Final = 6
FRAMES: Final = 8
CHANNELS: Final = 96
BLOCK_BUDGET: Final = "1MB"
"""Of weights and activations: one layer fits into it, and two do not."""

MEMORY_BUDGET: Final = "30MB"
"""Of open blocks, most of it the engine's own for each: three fit into it."""

STEPS: Final = 4
"""Runs of each variant, one after another, as a sampler makes them."""


class Layer(nn.Module):
    """An MLP with a skip connection: tokens [B, T, S, C] to the same, through means of two frames if it merges."""

    def __init__(self, merges: bool) -> None:
        super().__init__()
        self.merges = merges
        self.norm = nn.LayerNorm(CHANNELS)
        self.widen, self.narrow = nn.Linear(CHANNELS, 4 * CHANNELS), nn.Linear(4 * CHANNELS, CHANNELS)

    def forward(self, x_BTSC: Tensor) -> Tensor:
        """Merge, mix channels, and give both frames of a pair the result."""
        inner = merge_frame_pairs(self.norm(x_BTSC)) if self.merges else self.norm(x_BTSC)
        inner = self.narrow(nn.functional.gelu(self.widen(inner)))
        return x_BTSC + (unmerge_frame_pairs(inner, FRAMES) if self.merges else inner)


def build() -> tuple[dict[str, nn.Module], Tensor]:
    """The variants `full` and `merged` over the same weights, and tokens [1, 8, 16, 96] to run them on."""
    torch.manual_seed(0)
    variants = {name: nn.Sequential(*(Layer(name == "merged") for _ in range(LAYERS))) for name in ("full", "merged")}
    variants["merged"].load_state_dict(variants["full"].state_dict())
    return dict(variants), torch.randn(1, FRAMES, 16, CHANNELS)


@dataclass(frozen=True)
class Streamed:
    """What became of one variant in the memory budget.

    `open_at_once` is the most blocks that were open at one time.
    """

    variant: str
    loads: int
    open_at_once: int
    relative_error: float


def run_in_budget(bundle: tm_export.Bundle, modules: dict[str, nn.Module], x: Tensor) -> tuple[Streamed, ...]:
    """Run every variant `STEPS` times with only some of its blocks open at a time, and compare with PyTorch."""
    (component,) = bundle.manifest.components
    engine = choose_engine(bundle.manifest.target)
    streamed = []
    for variant in component.variants:
        inputs = {variant.inputs[0].name: x.numpy()}
        with Loader(bundle.path, bundle.manifest, engine, memory_budget=parse_size(MEMORY_BUDGET)) as loader:
            loader.schedule([(component.name, variant.name)] * STEPS)  # so blocks stay open from step to step
            for _ in range(STEPS):
                outputs = loader.run(component.name, variant.name, inputs)
        with torch.inference_mode():
            expected = modules[variant.name](x).numpy()
        error = np.abs(outputs[variant.outputs[0].name] - expected).max() / np.abs(expected).max()
        loads = sum(event.kind == "load" for event in loader.events)
        streamed.append(Streamed(variant.name, loads, open_at_once(loader.events), float(error)))
    return tuple(streamed)


def open_at_once(events: Iterable[Event]) -> int:
    """The most blocks that were open at one time; events stand in the order in which they ended."""
    change = {"load": 1, "run": 0, "close": -1}
    return max(itertools.accumulate(change[event.kind] for event in events))


def demonstrate(out: Path) -> tuple[tm_export.Bundle, tuple[Streamed, ...]]:
    """Export, run in a budget, and measure; the bundle and `bench/report.html` are under `out`."""
    modules, x = build()
    bundle = tm_export.export(modules, x, target="onnx", out=out, name="layers", block_budget=BLOCK_BUDGET)
    streamed = run_in_budget(bundle, modules, x)
    measured = bench_bundle(bundle.path, None, None, BenchOptions(runs=5, warmup=1, loads=1), tell=print)
    save_report(out / "bench", measured.report, measured.recordings)
    return bundle, streamed


def main() -> None:
    """Parse the command line, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/blocks"), help="folder of the bundle and the report")
    out = parser.parse_args().out
    bundle, streamed = demonstrate(out)
    (cut,) = bundle.report().blocks
    print(f"{cut.blocks} blocks of {cut.programs} program, converted {cut.conversions} time")
    for each in streamed:
        print(
            f"{each.variant}: {STEPS} runs with at most {each.open_at_once} blocks open, {each.loads} loads, "
            f"relative error {each.relative_error:.1e}"
        )
    print(f"look at {out / 'bench' / 'report.html'}")


if __name__ == "__main__":
    main()
