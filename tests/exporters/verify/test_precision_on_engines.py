"""What converters lose silently, seen on the engines themselves: tanh of GELU, and positions in half precision."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.export import ExportedProgram

from tests.support.programs import Lambda, emit_one, program_of
from tm_export.exporters.lowering.choose import lower_merges
from tm_export.exporters.merging.raise_merges import raise_merges
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.targets.base import Signature, find_target
from tm_export.runtime.engines import engines_for

SIGNATURE = Signature(("x",), ("y",))


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x * 2, approximate="tanh")


X = torch.linspace(-2, 2, 256)[None]
EXACT = F.gelu(X * 2)


def emitted_and_run(
    program: ExportedProgram, x: Tensor, expected: Tensor, target_name: str, options: ExportOptions, folder: Path
) -> Tensor:
    target = find_target(target_name)
    path, variant = emit_one(target, program, SIGNATURE, folder, options, (x,), (expected,))
    with engines_for(target_name)[-1].open(path, variant) as session:
        return torch.from_numpy(session.run({"x": x.numpy()})["y"])


@pytest.mark.parametrize(("target_name", "precision"), [("coreml", "fp32"), ("executorch", None)])
def test_gelu_by_tanh_is_exact_gelu_without_our_rule_and_right_with_it(
    target_name: str, precision: str | None, tmp_path: Path
) -> None:
    options = ExportOptions(precision=precision)  # type: ignore[arg-type]
    as_captured = torch.export.export(Lambda(gelu), (X,)).run_decompositions({})
    theirs = emitted_and_run(as_captured, X, gelu(X), target_name, options, tmp_path)
    torch.testing.assert_close(theirs, EXACT, rtol=1e-5, atol=2e-6)
    assert (theirs - gelu(X)).abs().max() > 2e-4

    legal = find_target(target_name).legalize(program_of(gelu, X), options).program
    ours = emitted_and_run(legal, X, gelu(X), target_name, options, tmp_path)
    torch.testing.assert_close(ours, gelu(X), rtol=1e-5, atol=2e-6)


def best_position(x: Tensor) -> Tensor:
    return x.argmax(-1)


def only_at(*positions: int) -> Tensor:
    scores = torch.zeros(1, len(positions), 4100)
    scores[0, range(len(positions)), positions] = 1.0
    return scores


@pytest.mark.parametrize(
    ("form", "scores", "agrees"),
    [
        ("auto", only_at(7, 2049, 4099), lambda same: same.all()),
        ("rank", only_at(1, 3, 7), lambda same: not same.all()),
    ],
    ids=["auto", "rank, forced"],
)
def test_positions_in_half_precision_are_wrong_above_2048_and_we_do_not_choose_them(
    form: str, scores: Tensor, agrees: Callable[[Tensor], bool], tmp_path: Path
) -> None:
    """The rank form counts positions in floating point, from the end: 4100 − 1 is no half precision number."""
    options, target = ExportOptions(precision="fp16", merge_lowering=form), find_target("coreml")  # type: ignore[arg-type]
    raised = raise_merges(program_of(best_position, scores), 0).program
    program = target.legalize(lower_merges(raised, target.costs(options), options, half=True), options).program
    expected = best_position(scores)
    found = emitted_and_run(program, scores, expected, "coreml", options, tmp_path)
    assert agrees(found.to(torch.int64) == expected)
