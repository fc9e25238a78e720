"""Arguments are read by name, whether they were written by position, by keyword or not at all."""

from typing import Any

import pytest
import torch
from torch import fx

from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.nodes import slice_of

aten = torch.ops.aten


def call(operator: Any, *args: Any, **kwargs: Any) -> fx.Node:
    graph = fx.Graph()
    x = graph.placeholder("x")
    x.meta["val"] = torch.empty(2, 12, 4)
    return graph.call_function(operator, (x, *args), kwargs)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (call(aten.slice.Tensor, 1, step=2), {"dim": 1, "start": None, "end": None, "step": 2}),
        (call(aten.slice.Tensor, 1, 0, 8, 2), {"dim": 1, "start": 0, "end": 8, "step": 2}),
        (call(aten.slice.Tensor), {"dim": 0, "start": None, "end": None, "step": 1}),
        (call(aten.topk.default, 3, largest=False), {"k": 3, "dim": -1, "largest": False, "sorted": True}),
        (call(aten.sort.stable, stable=True, descending=True), {"stable": True, "dim": -1, "descending": True}),
        (call(aten.add.Tensor, 1), {"other": 1, "alpha": 1}),
    ],
)
def test_every_argument_has_its_name(node: fx.Node, expected: dict[str, Any]) -> None:
    assert bound_arguments(node) == {"self": node.args[0], **expected}


@pytest.mark.parametrize("bounds", [(None, None, 2), (-8, None, 2), (3, 99, 1), (-99, -2, 3), (11, 4, 1), (0, 0, 1)])
@pytest.mark.parametrize("dim", [1, -2])
def test_a_slice_is_read_with_its_bounds(bounds: tuple[int | None, int | None, int], dim: int) -> None:
    cut = slice_of(call(aten.slice.Tensor, dim, *bounds))
    assert cut.dim == 1
    assert list(range(cut.start, cut.end, cut.step)) == list(range(12))[slice(*bounds)]


def test_dimensions_count_from_the_front() -> None:
    assert [from_front(dim, 3) for dim in (-3, -1, 0, 2)] == [0, 2, 0, 2]
    assert from_front(-1, 0) == 0
