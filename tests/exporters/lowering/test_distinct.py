"""An index is called distinct only if it is: what is written through it is then not looked at twice."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.support.programs import nodes_of, program_of, run
from tm_export.exporters.graph.dialect import SCATTER_ROWS
from tm_export.exporters.lowering.distinct import is_distinct
from tm_export.exporters.merging.raise_merges import raise_merges

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))

INDICES: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "an order": (lambda x: x.argsort(1), True),
    "its first": (lambda x: x.argsort(1)[:, :2], True),
    "every other": (lambda x: x.argsort(1)[:, 1::2], True),
    "of positions": (lambda x: x.topk(4, 1).indices.sort(1).values, True),
    "of an order": (lambda x: x.argsort(1).gather(1, x.argsort(1)[:, :3]), True),
    "two parts": (lambda x: torch.cat([x.argsort(1)[:, 4:], x.argsort(1)[:, :2]], 1), False),
    "one position": (lambda x: x.argmax(1, keepdim=True), True),
    "a constant": (lambda x: torch.tensor([[2, 0, 5]]).expand(4, -1), True),
    "a constant that repeats": (lambda x: torch.tensor([[2, 0, 2]]).expand(4, -1), False),
    "decisions": (lambda x: x.reshape(4, 3, 2).argmax(-1), False),
    "a table of labels": (lambda x: torch.tensor([0, 1, 1, 2, 3, 4]).expand(4, -1).gather(1, x.argsort(1)), False),
    "an order, halved": (lambda x: x.argsort(1) // 2, False),
    "two orders in a row": (lambda x: x.argsort(1).reshape(2, 12), False),
    "an order in two rows": (lambda x: x.argsort(1).reshape(8, 3), True),
    "the same one again": (lambda x: x.argsort(1)[:, None].expand(-1, 2, -1).reshape(4, 12), False),
    "chosen twice": (lambda x: x.argsort(1).gather(1, x.reshape(4, 3, 2).argmax(-1)), False),
}


@pytest.mark.parametrize("name", INDICES)
def test_what_is_known_of_an_index(name: str) -> None:
    function, expected = INDICES[name]

    def put(x: Tensor) -> tuple[Tensor, Tensor]:
        index = function(x)
        return torch.zeros(index.shape[0], 6).scatter(1, index, index + x.sum()), index + (x.sum() * 0).long()

    program = raise_merges(program_of(put, X), seed=0).program
    (rows,) = nodes_of(program, SCATTER_ROWS)
    index = rows.args[1]
    assert isinstance(index, torch.fx.Node)
    assert is_distinct(index, function(X).shape[0]) is expected
    if expected:
        _, seen = run(program, X)
        assert all(len(set(row)) == len(row) for row in seen.tolist())


def test_parts_of_one_order_that_overlap_repeat() -> None:
    def put(x: Tensor, both: slice) -> Tensor:
        order = x.argsort(1)
        return torch.zeros(4, 6).scatter(1, torch.cat([order[:, :3], order[:, both]], 1), 1.0)

    for both, expected in ((slice(3, 6), True), (slice(2, 5), False), (slice(None, None, 2), False)):
        program = raise_merges(program_of(lambda x, both=both: put(x, both), X), seed=0).program
        (rows,) = nodes_of(program, SCATTER_ROWS)
        assert is_distinct(rows.args[1], 4) is expected  # type: ignore[arg-type]
