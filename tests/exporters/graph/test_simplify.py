"""What does nothing is dropped, and nothing else is."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.programs import operators, program_of, run
from tm_export.exporters.graph.simplify import simplify

X = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))

SAME: dict[str, tuple[Callable[[Tensor], Tensor], set[str]]] = {
    "a number by its name": (lambda x: x + torch.full_like(x[0], fill_value=2.5, dtype=torch.float64), {"add"}),
    "a number among options": (lambda x: x + x.new_full((6, 4), 3, dtype=torch.int32), {"add"}),
    "a slice of everything": (lambda x: x[:, -6:99] * 2, {"mul"}),
    "a slice of a part": (lambda x: x[:, -5:99] * 2, {"slice", "mul"}),
    "a slice with a step": (lambda x: x[:, ::2] * 2, {"slice", "mul"}),
    "a permutation and back": (lambda x: x.permute(-1, 0, -2).permute(1, 2, 0) * 2, {"mul"}),
    "two that make one": (lambda x: x.transpose(-1, 1).permute(2, 0, -2) * 2, {"permute", "mul"}),
    "dropout in evaluation": (lambda x: F.dropout(x, 0.5, training=False) * 2, {"mul"}),
    "dropout of nothing": (lambda x: F.dropout(x, 0.0, training=True) * 2, {"mul"}),
    "its own dtype": (lambda x: x.to(torch.float32) * 2, {"mul"}),
    "another dtype": (lambda x: x.to(torch.float64) * 2, {"to", "mul"}),
}


@pytest.mark.parametrize("name", SAME)
def test_the_value_stays(name: str) -> None:
    function, left = SAME[name]
    program = simplify(program_of(function, X))
    (value,) = run(program, X)
    assert value.dtype == function(X).dtype
    assert torch.equal(value, function(X))
    assert set(operators(program)) - {"full", "_to_copy"} <= left
