"""What streaming blocks costs against keeping them all open, and whether the planner foresees it.

    python benchmarks/overlap.py out/ondevice-sora-144p-onnx --component denoiser --variant full --threads 1

Streamed: the least memory budget in which the next block is always loaded while one runs, so that every block is opened
anew in every pass. Resident: no budget, each block is opened once. After a pass to warm up, passes of the two are timed
in turn; printed are medians and the median of the ratios of a turn. Before that, single loads and runs are timed with
nothing beside them (prefetch depth 0), and what `predicted_seconds` makes of them is printed beside the wall time of
another streamed schedule, from its first load until the last block is closed.

The bound of 1.1 that streaming is held to is for blocks that run longer than they load: both medians are printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tm_export.runtime.engines import choose_engine
from tm_export.runtime.engines.base import Array, Engine
from tm_export.runtime.heap import restart_with_huge_pages
from tm_export.runtime.loading.loader import Loader
from tm_export.runtime.loading.policy import least_budget, plan_loading
from tm_export.runtime.loading.prediction import Timings, predicted_seconds, timings_of
from tm_export.runtime.loading.uses import uses_of
from tm_export.runtime.manifest import Manifest, read_manifest
from tm_export.runtime.measure.inputs import inputs_for


@dataclass(frozen=True)
class Subject:
    """What is run, and by what."""

    bundle: Path
    manifest: Manifest
    engine: Engine
    component: str
    variant: str
    inputs: Mapping[str, Array]

    def loader(self, memory_budget: int | None, prefetch_depth: int, passes: int) -> Loader:
        """A loader for so many passes."""
        loader = Loader(
            self.bundle, self.manifest, self.engine, memory_budget=memory_budget, prefetch_depth=prefetch_depth
        )
        loader.schedule([(self.component, self.variant)] * passes)
        return loader

    def seconds(self, loader: Loader) -> float:
        """One pass."""
        start = time.perf_counter()
        loader.run(self.component, self.variant, self.inputs)
        return time.perf_counter() - start

    def all_passes(self, memory_budget: int | None, prefetch_depth: int, passes: int) -> Loader:
        """The loader after so many passes, closed."""
        with self.loader(memory_budget, prefetch_depth, passes) as loader:
            for _ in range(passes):
                self.seconds(loader)
        return loader

    def streaming_budget(self) -> int:
        """The least budget in which every block but the first is prefetched, in passes one after another."""
        uses = uses_of(self.manifest, self.engine, [(self.component, self.variant)] * 2)
        low, high = least_budget(uses), 3 * sum(use.footprint.open_bytes for use in uses) + least_budget(uses)
        while low < high:
            middle = (low + high) // 2
            waited_for = sum(len(step.opens) for step in plan_loading(uses, middle, 1).steps)
            low, high = (low, middle) if waited_for == 1 else (middle + 1, high)
        return low


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--component", required=True)
    parser.add_argument("--variant", default="full")
    parser.add_argument("--threads", type=int, default=1, help="of the engine; one core more loads (default 1)")
    parser.add_argument("--rounds", type=int, default=7, help="turns, and passes of each other schedule (default 7)")
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.bundle)
    engine = choose_engine(manifest.target, threads=arguments.threads)
    inputs = inputs_for(arguments.bundle, manifest, arguments.component, arguments.variant).arrays
    subject = Subject(arguments.bundle, manifest, engine, arguments.component, arguments.variant, inputs)
    budget = subject.streaming_budget()
    print(
        f"{len(manifest.component(arguments.component).blocks)} blocks, streamed in {budget / 1e9:.2f} GB", flush=True
    )
    predict(subject, budget, timings(subject, budget, arguments.rounds), arguments.rounds)
    compare(subject, budget, arguments.rounds)


def timings(subject: Subject, budget: int, passes: int) -> Timings:
    """Of single loads and runs, with nothing beside them."""
    found = timings_of(subject.all_passes(budget, 0, passes).events)
    load, run = (1e3 * sum(seconds.values()) / len(seconds) for seconds in (found.load, found.run))
    print(f"a block on average: load {load:.1f} ms, run {run:.1f} ms", flush=True)
    return found


def predict(subject: Subject, budget: int, found: Timings, passes: int) -> None:
    """Print predicted and measured wall time of a streamed schedule."""
    start = time.perf_counter()
    loader = subject.all_passes(budget, 1, passes)
    measured = time.perf_counter() - start
    predicted = predicted_seconds(loader.plan, found, loads_while_running=subject.engine.loads_while_running)
    print(
        f"{len(loader.plan.loads())} loads for {len(loader.plan.steps)} runs: predicted {predicted:.2f} s, "
        f"measured {measured:.2f} s, ratio {predicted / measured:.3f}",
        flush=True,
    )


def compare(subject: Subject, budget: int, rounds: int) -> None:
    """Print the times of passes that stream and of passes that do not."""
    with ExitStack() as stack:
        streaming, resident = (stack.enter_context(subject.loader(bytes_, 1, rounds + 1)) for bytes_ in (budget, None))
        for loader in (streaming, resident):
            subject.seconds(loader)
        pairs = [(subject.seconds(streaming), subject.seconds(resident)) for _ in range(rounds)]
    streamed, kept = (statistics.median(each) for each in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    print(f"a pass: streamed {streamed:.2f} s, resident {kept:.2f} s, ratio {ratio:.3f}")


if __name__ == "__main__":
    restart_with_huge_pages()
    main()
