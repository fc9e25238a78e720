"""What ExecuTorch's runtime has no kernel for, and single numbers beside its delegate, against PyTorch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from tests.support.programs import emit_one, program_of, run
from tm_export.exporters.graph.rule import apply_rules
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.targets.base import Signature, find_target
from tm_export.exporters.targets.executorch.conv3d import CONVOLUTIONS
from tm_export.exporters.targets.executorch.rules import EXECUTORCH_RULES
from tm_export.runtime.engines import engines_for

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
SPECIAL = torch.tensor([[0.0, -0.0, 1e-3, -7.25], [2.5, -2.5, 0.5, 1.5], [9.95, -0.04, 0.05, 4.0]])
BYTES = torch.tensor([[0, 1, 2, 5], [127, 128, 254, 255], [7, 8, 9, 10]], dtype=torch.uint8)

VIDEO = torch.randn(2, 4, 5, 6, 7, generator=torch.Generator().manual_seed(1))
KERNEL = torch.randn(4, 2, 3, 2, 3, generator=torch.Generator().manual_seed(2))
IMAGE, BIAS = VIDEO[:, :, 0], torch.tensor([1.0, -1.0, 2.0, 0.5])


def volumes(x: Tensor) -> tuple[Tensor, ...]:
    return (
        F.conv3d(x, KERNEL, BIAS, stride=(2, 1, 2), padding=(1, 0, 1), dilation=(1, 2, 1), groups=2),
        F.conv3d(x[:, :2], KERNEL, None, padding=2),
        F.conv_transpose3d(x, KERNEL, BIAS[:2], stride=(3, 2, 1), padding=(1, 1, 0), output_padding=(2, 0, 0)),
        F.conv_transpose3d(x, KERNEL, None, stride=4, dilation=(1, 2, 1), groups=2),
    )


def pads(x: Tensor) -> tuple[Tensor, ...]:
    return F.pad(x, (1, 2, 3, 0), mode="circular"), F.pad(x, (-1, 2)), F.pad(x, (1, -2, -1, 0), value=3.0)


def resizes(x: Tensor) -> tuple[Tensor, ...]:
    return (
        F.interpolate(x, scale_factor=1.7, mode="bilinear"),
        F.interpolate(x, (5, 9), mode="bicubic", antialias=True),
        F.interpolate(x, (4, 11), mode="nearest-exact"),
    )


FUNCTIONS: dict[str, tuple[Callable[[Tensor], Any], tuple[Tensor, ...]]] = {
    "hypot": (lambda x: torch.hypot(x, x.flip(1)), (X, SPECIAL)),
    "copysign": (lambda x: torch.copysign(x, x.flip(0)), (X, SPECIAL)),
    "erfc": (lambda x: torch.erfc(x) / torch.erfc(x + 1e-3), (X, SPECIAL / 2)),
    "exp2": (lambda x: torch.exp2(x), (X, SPECIAL)),
    "signbit": (lambda x: (torch.signbit(x), torch.signbit((3 * x).int())), (X, SPECIAL)),
    "round": (lambda x: (x.round(decimals=1), (99 * x).round(decimals=-1)), (X, SPECIAL)),
    "volumes": (volumes, (VIDEO, VIDEO.flip(2))),
    "pads": (pads, (IMAGE, IMAGE.flip(2))),
    "resizes": (resizes, (IMAGE, IMAGE.flip(2))),
    "shifts": (lambda x: (x << x % 5, x >> x % 7), (torch.tensor([5, -5, 7, 100]), torch.tensor([-1, -2, -300, 0]))),
    "bounds of bytes": (lambda x: (x.clamp(-1, 1), x.clamp(2, -2), x.clamp(min=9), x.clamp(max=100)), (BYTES,)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_formula_computes_what_the_operator_does(name: str) -> None:
    function, inputs = FUNCTIONS[name]
    program, firings = apply_rules(program_of(function, inputs[0]), (CONVOLUTIONS, *EXECUTORCH_RULES))
    assert any(firing.fired for firing in firings)
    for x in inputs:
        for found, wanted in zip(run(program, x), pytree.tree_leaves(function(x)), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def numbers(x: Tensor) -> tuple[Tensor, ...]:
    total = x.sum()
    return total * 0.5 + 1, F.gelu(total, approximate="tanh"), F.softshrink(total), x * total, total.sigmoid()


def many_dimensions(x: Tensor) -> Tensor:
    return (x.reshape(1, 1, 3, 1, 2, 1, 2) * 2).sigmoid()


@pytest.mark.parametrize("function", [numbers, many_dimensions])
def test_what_the_delegate_cannot_hold_is_computed_beside_it(function: Callable[[Tensor], Any], tmp_path: Path) -> None:
    target, options = find_target("executorch"), ExportOptions()
    expected = tuple(pytree.tree_leaves(function(X)))
    names = Signature(("x",), tuple(f"y{i}" for i in range(len(expected))))
    program = target.legalize(program_of(function, X), options).program
    path, variant = emit_one(target, program, names, tmp_path, options, (X,), expected)
    with engines_for("executorch")[0].open(path, variant) as session:
        found = session.run({"x": X.numpy()})
    for name, wanted in zip(names.outputs, expected, strict=True):
        assert found[name].shape == tuple(wanted.shape)
        torch.testing.assert_close(torch.from_numpy(found[name]), wanted, rtol=1e-5, atol=1e-6)
