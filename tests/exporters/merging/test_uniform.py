"""Finding the index that was expanded: what `narrow` sees through, and what it must not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx

from tests.support.programs import program_of, run
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.retrace import KEEP, Values, retrace
from tm_export.exporters.merging.raising.uniform import narrow

INDEX = torch.tensor([[3, 1, 2], [0, 5, 4]])
SHAPE = (2, 3, 5)


def narrowed(function: Callable[[Tensor], Tensor], dim: int) -> tuple[Tensor, Tensor] | None:
    """The function's whole value and its narrowed one, computed by a retraced program; None if it is not uniform."""
    program = program_of(function, INDEX)
    (whole,) = run(program, INDEX)
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    (result,) = output.args[0]
    cut = narrow(result, dim)
    if cut is None:
        return None

    def translate(node: fx.Node, values: Values) -> object:
        return (cut(values),) if node.op == "output" else KEEP

    shorter = retrace(program, translate)
    (value,) = run(shorter, INDEX)
    (end,) = (node for node in shorter.graph.nodes if node.op == "output")
    assert value_of(end.args[0][0]).shape == value.shape
    return whole, value


UNIFORM: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "unsqueeze": (lambda i: i.unsqueeze(-1), 2),
    "expand": (lambda i: i.unsqueeze(-1).expand(-1, -1, 5), 2),
    "expand in front": (lambda i: i.expand(4, 2, 3), 0),
    "expand, another dimension in front": (lambda i: i[:, :, None].expand(4, 2, 3, 5), 3),
    "repeat": (lambda i: i[:, :, None].repeat(1, 1, 5), 2),
    "repeat in front": (lambda i: i.repeat(4, 1, 1), 0),
    "repeat along another": (lambda i: i[:, :, None].expand(-1, -1, 5).repeat(1, 2, 1), 2),
    "unsqueeze in front of it": (lambda i: i[:, :, None].expand(-1, -1, 5).unsqueeze(0), 3),
    "unsqueeze behind it": (lambda i: i[:, :, None].expand(-1, -1, 5).unsqueeze(-1), 2),
    "slice of it": (lambda i: i[:, :, None].expand(-1, -1, 9)[:, :, 2:7], 2),
    "slice of another": (lambda i: i[:, :, None].expand(-1, -1, 5)[:, 1:], 2),
    "cat of another": (lambda i: torch.cat([i[:, :, None].expand(-1, -1, 5), i[:, :1, None].repeat(1, 1, 5)], 1), 2),
    "transpose": (lambda i: i[:, None].expand(-1, 5, -1).transpose(1, 2), 2),
    "permute": (lambda i: i[:, None].expand(-1, 5, -1).permute(1, 2, 0), 0),
    "arithmetic": (lambda i: (2 * i[:, :, None].expand(-1, -1, 5) + 1) % 7, 2),
    "arithmetic of two": (lambda i: i[:, :, None].expand(-1, -1, 5) + torch.arange(3)[:, None], 2),
    "arithmetic with fewer dimensions": (lambda i: i[:, :, None].expand(-1, -1, 5) + i[0, 0], 2),
    "arithmetic with fewer dimensions first": (lambda i: i[0, 0] + i[:, :, None].expand(-1, -1, 5), 2),
    "gather along another": (
        lambda i: i[:, :, None].expand(-1, -1, 5).gather(1, i[:, :1, None].expand(-1, 1, 5) % 3),
        2,
    ),
    "where": (lambda i: torch.where((i > 2)[..., None], i[..., None].expand(-1, -1, 5), i[..., None]), 2),
    "clone": (lambda i: i[:, :, None].expand(-1, -1, 5).contiguous().clone(), 2),
    "a constant": (lambda i: torch.full((2, 3, 5), 2) + 0 * i[:, :, None], 2),
}


@pytest.mark.parametrize("case", UNIFORM)
def test_it_is_found_uniform_and_computed_once(case: str) -> None:
    function, dim = UNIFORM[case]
    found = narrowed(function, dim)
    assert found is not None
    whole, cut = found
    assert cut.shape[dim] == 1
    assert torch.equal(cut.expand_as(whole), whole)


VARYING: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "an input": (lambda i: i + 0, 1),
    "cat along it": (lambda i: torch.cat([i[:, :, None], i[:, :, None] + 1], 2), 2),
    "a sum with positions": (lambda i: i[:, :, None] + torch.arange(5), 2),
    "a repeat of several": (lambda i: i.repeat(1, 2), 1),
    "gather along it": (lambda i: i.expand(2, 3).gather(1, i % 3), 1),
    "a constant that varies": (lambda i: torch.arange(30).reshape(SHAPE) + 0 * i[:, :, None], 2),
    "cumsum, of which nothing is known": (lambda i: i[:, :, None].expand(-1, -1, 5).cumsum(2), 2),
}


@pytest.mark.parametrize("case", VARYING)
def test_it_is_not_called_uniform(case: str) -> None:
    function, dim = VARYING[case]
    assert narrowed(function, dim) is None
