"""Bounds of whole numbers hold for every value that a program computes, and are as narrow as the operators say."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.support.programs import program_of, run
from tm_export.exporters.graph.bounds import UNBOUNDED, Bounds, bounds_of
from tm_export.exporters.merging.raise_merges import raise_merges

X = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0))
IDS = torch.randint(-9, 9, (2, 8), generator=torch.Generator().manual_seed(1))
INT64 = Bounds(-(2**63), 2**63 - 1)

KNOWN: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Bounds | None]] = {
    "a decision": (lambda x, i: x.argmax(1), Bounds(0, 7)),
    "a decision over everything": (lambda x, i: x.argmax(), Bounds(0, 47)),
    "an order": (lambda x, i: x.topk(3, 1).indices, Bounds(0, 7)),
    "sorted, along the last": (lambda x, i: x.sort(dim=-1)[1], Bounds(0, 2)),
    "a part of it": (lambda x, i: x.argsort(1)[:, 2:5].unsqueeze(0), Bounds(0, 7)),
    "counted from the end": (lambda x, i: x.argmax(1) * -1, Bounds(-7, 0)),
    "from the end, otherwise": (lambda x, i: -1 - x.argmax(1), Bounds(-8, -1)),
    "shifted twice": (lambda x, i: torch.add(x.argmax(1), 3, alpha=-2) - 1, Bounds(-7, 0)),
    "a mask": (lambda x, i: x > 0, Bounds(0, 1)),
    "a mask as floats": (lambda x, i: (x > 0).float(), Bounds(0, 1)),
    "counted": (lambda x, i: (x > 0).long().cumsum(1), Bounds(0, 48)),
    "wrapped around": (lambda x, i: (x.argmax(1) + 5) % 8, Bounds(0, 7)),
    "halved": (lambda x, i: x.argmax(1) // 2, Bounds(0, 3)),
    "halved, upwards of a negative": (lambda x, i: (x.argmax(1) - 7) // 2, Bounds(-4, 0)),
    "cut": (lambda x, i: i.clamp(0, 5), Bounds(0, 5)),
    "cut at one end": (lambda x, i: i.clamp(min=0), Bounds(0, 2**63 - 1)),
    "cut off at a place": (lambda x, i: x.argmax(1).clamp(max=4), Bounds(0, 4)),
    "one of two": (lambda x, i: torch.where(i > 0, x.argmax(2), 9), Bounds(0, 9)),
    "put together": (lambda x, i: torch.cat([x.argmax(1), x.argmax(1) + 4], 1), Bounds(0, 11)),
    "labels and positions": (lambda x, i: (x[..., 0] > 0).long() * 100 + torch.arange(8), Bounds(0, 107)),
    "a magnitude": (lambda x, i: (x.argmax(1) - 5).abs(), Bounds(0, 5)),
    "gathered": (lambda x, i: x.argmax(2).gather(1, x.argsort(1)[..., 0]), Bounds(0, 2)),
    "what a user gives": (lambda x, i: i + 0, INT64),
    "too large for its dtype": (lambda x, i: x.argmax(1) * 2**61 * 8, INT64),
    "more than a float holds": (lambda x, i: (x.argmax(1) * 2**23).float(), UNBOUNDED),
    "rounded": (lambda x, i: (x * 3).round() * 2, UNBOUNDED),
    "floats": (lambda x, i: x * 2, None),
}


@pytest.mark.parametrize("name", KNOWN)
def test_bounds_follow_from_the_operators(name: str) -> None:
    function, expected = KNOWN[name]
    program = raise_merges(program_of(function, X, IDS), seed=0).program
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    found = bounds_of(output.args[0][0])
    assert found == expected
    if found is not None:
        (value,) = run(program, X, IDS)
        assert found.low <= value.min().item() <= value.max().item() <= found.high
