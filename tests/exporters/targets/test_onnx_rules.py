"""What ONNX lacks or has for some dtypes alone: artifacts on ONNX Runtime against PyTorch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from tests.support.programs import emit_one, program_of
from tm_export.exporters.capture.normalise import normalise
from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.targets.base import Signature, find_target
from tm_export.runtime.engines import engines_for

OPTIONS = ExportOptions()
X = torch.tensor([[0.0, -1.0, 2.5, -0.0], [1.0, 0.0, -3.0, 4.0], [-2.0, 5.0, 0.5, -0.25]])
BYTES = torch.tensor([[0, 1, 2, 5], [127, 128, 254, 255], [7, 8, 200, 100]], dtype=torch.uint8)
WORDS = torch.tensor([[0, -1, 2, -5], [127, -128, 30000, -30000], [7, 8, 200, 100]], dtype=torch.int16)
INTEGERS = torch.tensor([[0, -1, 2, -5], [7, 8, 2**40, -(2**40)], [9, -9, 1, 6]])


def bytes_and_words(x: Tensor) -> tuple[Tensor, ...]:
    y = x.flip(0)
    return (
        *(-x, x + y, x - y, x * y, x * 3, x // 3, x % 7, x**2, ~x, x & y, x | 3, x.abs(), x << 1, x >> 2),
        *(x > -1, x < 300, x == 255, x >= y, x.clamp(-1, 1), x.clamp(2, 100), torch.where(x > y, x, y)),
        *(x.sum(-1), x.amax(-1), x.argmax(-1), x.cumsum(-1), x.sort(-1).values, x.any(-1), x.all(-1), x.prod(-1)),
        *(x[:, [1, 0]], torch.cat([x, y]), F.pad(x, (1, 1), value=3), x.float() / 255, x.masked_fill(x > 9, 4)),
    )


def truth_values(x: Tensor) -> tuple[Tensor, ...]:
    a, b = x > 0, x < 2
    return torch.where(a, b, ~b), a.masked_fill(b, True), b.masked_fill(a, False), a + b, a * b, a ^ b


FUNCTIONS: dict[str, tuple[Callable[[Tensor], Any], Tensor]] = {
    "bytes": (bytes_and_words, BYTES),
    "words": (bytes_and_words, WORDS),
    "truth values": (truth_values, X),
    "functions": (lambda x: (torch.hypot(x, x.flip(0)), torch.copysign(x, x.flip(0)), torch.atan2(x, x.flip(0))), X),
    "shifts": (lambda x: (x << x % 5, x >> x % 7), INTEGERS),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_artifact_computes_what_pytorch_does(name: str, tmp_path: Path) -> None:
    function, x = FUNCTIONS[name]
    expected = tuple(pytree.tree_leaves(function(x)))
    target = find_target("onnx")
    names = Signature(("x",), tuple(f"y{i}" for i in range(len(expected))))
    program = target.legalize(normalise(program_of(function, x)), OPTIONS).program
    path, variant = emit_one(target, program, names, tmp_path, OPTIONS, (x,), expected)
    for engine in engines_for("onnx"):
        with engine.open(path, variant) as session:
            found = session.run({"x": x.numpy()})
        for name, wanted in zip(names.outputs, expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(found[name]), wanted, rtol=1e-6, atol=1e-6)


def test_a_type_that_an_operator_does_not_take_is_refused_with_its_line(tmp_path: Path) -> None:
    program = program_of(lambda x: (x > 0).cumsum(0, dtype=torch.bool), X)
    names = Signature(("x",), ("y",))
    with pytest.raises(ConversionRefused, match=r"ONNX has no CumSum for numbers of this type at test_onnx_rules\.py:"):
        emit_one(find_target("onnx"), program, names, tmp_path, OPTIONS, (X,), (X > 0,))
