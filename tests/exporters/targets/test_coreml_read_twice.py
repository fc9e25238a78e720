"""A merge in a Core ML package where every reader of a value rounds its own copy: no token is lost, none is doubled."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.programs import program_of
from tm_export.exporters.lowering.choose import lower_merges
from tm_export.exporters.lowering.rank_form import RankForm
from tm_export.exporters.merging.raise_merges import raise_merges
from tm_export.exporters.options import ExportOptions, Precision
from tm_export.exporters.reference.gates import gate_for
from tm_export.exporters.targets.base import Function, Signature, find_target
from tm_export.exporters.targets.specs import tensor_specs
from tm_export.runtime.engines.coreml_reference import CoreMLReferenceEngine
from tm_export.runtime.engines.coreml_reference.readings import RoundedByEachReader
from tm_export.runtime.manifest import Variant

R, SEEDS = 7, range(8)
OUTPUTS = ("merged", "partner", "order")


def merge(x_BNC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """ToMe, by sums: `R` of the even tokens go into their best odd ones. Gives the decisions too."""
    a, b = x_BNC[:, ::2], x_BNC[:, 1::2]
    best, partner = (a @ b.mT).max(-1)
    order = best.argsort(-1, descending=True)
    wide = order[..., None].expand(-1, -1, x_BNC.shape[-1])
    into = partner.gather(1, order[:, :R])[..., None].expand(-1, -1, x_BNC.shape[-1])
    merged = b.scatter_add(1, into, a.gather(1, wide[:, :R]))
    return torch.cat([a.gather(1, wide[:, R:]), merged], 1), partner, order


def tokens() -> Tensor:
    """Tokens in clusters, as of neighbouring frames: scores are near ties. The last channel is 1: a token's size."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 16, generator=generator)[torch.arange(48) % 5]
    x = torch.nn.functional.normalize(centres + 1e-3 * torch.randn(48, 16, generator=generator), dim=-1)
    return torch.cat([x, torch.ones(48, 1)], 1)[None]


@pytest.fixture(scope="module", params=get_args(Precision))
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ExportOptions, Path]:
    options, target = ExportOptions(precision=request.param, merge_lowering="rank"), find_target("coreml")
    raised = raise_merges(program_of(merge, tokens()), 0).program
    lowered = lower_merges(raised, target.costs(options), options, half=request.param == "fp16")
    program = target.legalize(lowered, options).program
    folder = tmp_path_factory.mktemp(request.param)
    target.emit({"full": Function(program, Signature(("x",), OUTPUTS))}, folder, "merge", options)
    return options, folder / "merge.mlpackage"


def run(package: Path, seed: int) -> list[np.ndarray]:
    target, x = find_target("coreml"), tokens()
    variant = Variant(
        name="full",
        artifact=package.name,
        function="main",
        inputs=tensor_specs(("x",), (x,), target),
        outputs=tensor_specs(OUTPUTS, merge(x), target),
        activation_bytes=0,
    )
    with CoreMLReferenceEngine(RoundedByEachReader(seed)).open(package, variant) as session:
        results = session.run({"x": x.numpy()})
    return [results[name] for name in OUTPUTS]


def test_each_token_goes_to_exactly_one_place(package: tuple[ExportOptions, Path]) -> None:
    options, path = package
    x = tokens()
    scores = (x[:, ::2].double() @ x[:, 1::2].double().mT)[0].numpy()
    margin = gate_for(options.precision or "fp16").tie_margin * scores.max()
    best = scores.max(1)
    differing = 0
    for seed in SEEDS:
        merged, partner, order = run(path, seed)
        sizes = merged[0, :, -1]
        assert sizes.sum() == x.shape[1] and sizes.min() >= 1 and (sizes == sizes.round()).all()
        assert (np.sort(order[0]) == np.arange(24)).all()
        assert (scores[np.arange(24), partner[0]] >= best - margin).all()
        assert (np.abs(best[order[0]] - np.sort(best)[::-1]) <= margin).all()
        differing += not np.array_equal(partner[0], scores.argmax(1))
    assert differing  # the copies did differ where it matters


def test_what_the_form_computes_in_is_the_packages_type() -> None:
    """The slack for near ties is reckoned in units of the type that scores are held in."""
    coreml, executorch = find_target("coreml"), find_target("executorch")
    wanted: dict[Any, torch.dtype] = {"fp16": torch.float16, "fp32": torch.float32, None: torch.float16}
    for precision, dtype in wanted.items():
        for target in (coreml, executorch):
            form = target.costs(ExportOptions(precision=precision, backend="coreml")).forms["rank"]
            assert isinstance(form, RankForm) and form.computed_in is dtype
