"""Measure what each form of merging costs, and fit the cost model's prices to it.

    python benchmarks/lowering_costs.py onnx
    python benchmarks/lowering_costs.py xnnpack --rounds 40

A module that does nothing but one ToMe merge is exported in every form and at several sizes, and run on the target's
engine; prices are a non-negative least-squares fit, relative to each time. Printed: measured and fitted time for every
form and size, the fitted price list, and how much the choices of the prices in `exporters/lowering/cost.py` lose.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import astuple, fields, replace
from pathlib import Path
from statistics import median
from typing import get_args

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn

from tm_export.exporters.capture.capture import capture
from tm_export.exporters.convert.worker import save_block, start_emission
from tm_export.exporters.lowering.choose import lower_merges
from tm_export.exporters.lowering.cost import Effort, effort
from tm_export.exporters.merging.raise_merges import raise_merges
from tm_export.exporters.merging.work import Work
from tm_export.exporters.options import ExportOptions, MergeLowering
from tm_export.exporters.targets.base import Function, Signature, Target, find_target
from tm_export.exporters.targets.specs import tensor_specs
from tm_export.models.merging.bipartite import match_bipartite, merge
from tm_export.runtime.engines import engines_for
from tm_export.runtime.manifest import Variant

BACKENDS = ("xnnpack", "portable")
SIZES = [(64, 64, 8), (196, 384, 13), (576, 768, 32), (1024, 384, 64), (1458, 1152, 84)]


class Merge(nn.Module):
    """One merge by the tokens' first 64 channels."""

    def __init__(self, r: int) -> None:
        super().__init__()
        self.r = r

    def forward(self, x_BNC: Tensor) -> Tensor:
        return merge(x_BNC, match_bipartite(x_BNC[..., :64], self.r), "mean")


def milliseconds(target: Target, options: ExportOptions, size: tuple[int, int, int], rounds: int) -> tuple[float, Work]:
    """The median time of one merge in one form, and what its operations do."""
    N, C, r = size
    torch.manual_seed(0)
    inputs = (torch.randn(1, N, C),)
    raised = raise_merges(capture(Merge(r), inputs), 0)
    program = target.legalize(lower_merges(raised.program, target.costs(options), options, half=False), options).program
    (engine,) = engines_for(target.name)
    with tempfile.TemporaryDirectory() as folder:
        functions = {"full": Function(program, Signature(("x",), ("y",)))}
        emission = start_emission(save_block(functions, Path(folder)), "merge", target, options)
        emission.wait()
        variant = Variant(
            name="full",
            artifact=target.artifact("merge", "full"),
            function=target.function("full", 1),
            inputs=tensor_specs(("x",), inputs, target),
            outputs=tensor_specs(("y",), (torch.zeros(1, N - r, C),), target),
            activation_bytes=0,
        )
        with engine.open(emission.folder / variant.artifact, variant) as session:
            arrays, samples = {"x": inputs[0].numpy()}, []
            for _ in range(rounds + 3):
                began = time.perf_counter()
                session.run(arrays)
                samples.append((time.perf_counter() - began) * 1e3)
    return median(samples[3:]), raised.sites[0].work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=("onnx", *BACKENDS))
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    target = find_target("executorch" if arguments.target in BACKENDS else arguments.target)
    options = ExportOptions(backend=arguments.target if arguments.target in BACKENDS else "xnnpack")
    known = target.costs(options).forms
    measured = {
        (size, form): milliseconds(target, replace(options, merge_lowering=form), size, arguments.rounds)
        for size in SIZES
        for form in get_args(MergeLowering)
        if form in known
    }
    times = np.array([ms * 1e6 for ms, _ in measured.values()])
    counts = np.array([astuple(effort(form, work)) for (_, form), (_, work) in measured.items()])
    # Divided by the time, so that a small site's error weighs as much as a large one's.
    prices, _ = nnls(counts / times[:, None], np.ones(len(times)))
    fitted = Effort(*map(float, prices))
    print(f"{'tokens':>6} {'channels':>8} {'r':>4}  {'form':8} {'measured ms':>12} {'fitted ms':>12}")
    for ((N, C, r), form), (ms, work) in measured.items():
        print(f"{N:>6} {C:>8} {r:>4}  {form:8} {ms:>12.3f} {effort(form, work).cost(fitted) / 1e6:>12.3f}")
    print("Effort(" + ", ".join(f"{f.name}={getattr(fitted, f.name):.4g}" for f in fields(Effort)) + ")")
    for size in SIZES:
        by_form = {form: ms for (other, form), (ms, _) in measured.items() if other == size}
        work = next(work for (other, _), (_, work) in measured.items() if other == size)
        chosen, best = target.costs(options).cheapest(work, half=False), min(by_form, key=by_form.__getitem__)
        loss = by_form[chosen] / by_form[best]
        print(f"{size}: the prices in use choose {chosen}; {best} is fastest; {chosen} takes {loss:.2f} times as long")


if __name__ == "__main__":
    main()
