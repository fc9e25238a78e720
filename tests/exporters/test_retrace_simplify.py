"""Retracing keeps a program's interface; simplifying drops what does nothing and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import nodes_of, operators, program_of, run
from torch import Tensor, fx, nn

from tm_export.exporters.capture import capture
from tm_export.exporters.retrace import KEEP, Values, placeholders_of, retrace, slice_of, value_of
from tm_export.exporters.rewrite import expose_decisions, raise_merges
from tm_export.exporters.simplify import simplify
from tm_export.exporters.source import source_line

aten = torch.ops.aten
X = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.register_buffer("scale", torch.tensor(2.0))
        self.register_buffer("shift", torch.tensor(0.5), persistent=False)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        y = self.inner(left) * self.scale + self.shift
        return y, {"sum": y + right, "left": left}


def test_the_interface_is_kept() -> None:
    module = Net()
    program = capture(module, (X, X))
    again = retrace(program, lambda node, values: KEEP)
    assert again.graph_signature.input_specs == program.graph_signature.input_specs
    assert [spec.kind for spec in again.graph_signature.output_specs] == [
        spec.kind for spec in program.graph_signature.output_specs
    ]
    assert [n.name for n in placeholders_of(again.graph)] == [n.name for n in placeholders_of(program.graph)]
    assert again.state_dict.keys() == program.state_dict.keys()
    assert operators(again) == operators(program)
    for got, wanted in zip(run(again, X, X), run(program, X, X), strict=True):
        assert torch.equal(got, wanted)


def test_the_result_is_a_program_that_pytorch_runs() -> None:
    again = retrace(capture(Net(), (X, X)), lambda node, values: KEEP)
    outputs = again.module()(X, X)
    for got, wanted in zip(outputs, run(again, X, X), strict=True):
        assert torch.equal(got, wanted)


def test_a_translator_computes_nodes_its_own_way_with_shapes_derived() -> None:
    def widen(node: fx.Node, values: Values) -> Any:
        if node.target is not aten.relu.default:
            return KEEP
        x = values(node.args[0])
        return torch.cat([x, x.clamp(min=0)], -1).narrow(-1, 4, 4)

    program = program_of(lambda x: torch.relu(x) + 1, X)
    again = retrace(program, widen)
    assert torch.equal(run(again, X)[0], torch.relu(X) + 1)
    (cat,) = nodes_of(again, aten.cat.default)
    assert value_of(cat).shape == (2, 3, 8)
    assert source_line(cat) == source_line(nodes_of(program, aten.relu.default)[0])


def test_the_users_line_is_kept() -> None:
    program = retrace(capture(Net(), (X, X)), lambda node, values: KEEP)
    (linear,) = nodes_of(program, aten.linear.default)
    assert source_line(linear) == "test_retrace_simplify.py:34: y = self.inner(left) * self.scale + self.shift"


def test_an_input_may_be_an_output_and_an_output_come_twice() -> None:
    program = program_of(lambda x: (x, x + 1, x), X)
    again = simplify(program)
    a, b, c = run(again, X)
    assert torch.equal(a, X) and torch.equal(b, X + 1) and torch.equal(c, X)


NOTHING: dict[str, Callable[[Tensor], Tensor]] = {
    "view": lambda x: x.view(2, 3, 4),
    "reshape and back": lambda x: x.reshape(6, 4).reshape(2, 12).reshape(2, 3, 4),
    "expand": lambda x: x.expand(2, -1, 4),
    "whole slice": lambda x: x[:, 0:3],
    "repeat once": lambda x: x.repeat(1, 1, 1),
    "to the same dtype": lambda x: x.to(torch.float32),
    "clone": lambda x: x.clone().contiguous().detach(),
    "transposed twice": lambda x: x.transpose(1, 2).transpose(-1, -2),
    "permuted and back": lambda x: x.permute(2, 0, 1).permute(1, 2, 0),
    "squeeze of nothing": lambda x: x.squeeze(1),
    "dropout": lambda x: nn.functional.dropout(x, 0.5, training=False),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_does_nothing_is_dropped(name: str) -> None:
    program = simplify(program_of(lambda x: NOTHING[name](x) + 1, X))
    assert operators(program) == {"add": 1}
    assert torch.equal(run(program, X)[0], NOTHING[name](X) + 1)


SOMETHING: dict[str, tuple[Callable[[Tensor], Tensor], dict[str, int]]] = {
    "a reshape": (lambda x: x.reshape(3, 8), {"reshape": 1}),
    "two reshapes": (lambda x: x.reshape(6, 4).reshape(3, 8), {"reshape": 1}),
    "two permutations": (lambda x: x.permute(2, 0, 1).permute(2, 0, 1), {"permute": 1}),
    "a part": (lambda x: x[:, 1:], {"slice": 1}),
    "every second": (lambda x: x[:, ::2], {"slice": 1}),
    "moving a dimension of size 1": (lambda x: x[:, :1].transpose(1, 2), {"slice": 1, "reshape": 1}),
    "another dtype": (lambda x: x.to(torch.float64), {"to": 1}),
    "transposition": (lambda x: x.transpose(0, 1), {"transpose": 1}),
}


@pytest.mark.parametrize("name", SOMETHING)
def test_what_does_something_stays(name: str) -> None:
    function, expected = SOMETHING[name]
    program = simplify(program_of(function, X))
    assert torch.equal(run(program, X)[0], function(X))
    found = operators(program)
    views = found.pop("view", 0) + found.pop("_unsafe_view", 0)
    found.update({"reshape": views} if views else {})
    assert found == expected


steps = st.one_of(
    st.tuples(st.just("permute"), st.permutations(range(3))),
    st.tuples(st.just("reshape"), st.sampled_from([(2, 3, 4), (4, 3, 2), (6, 1, 4), (1, 24, 1), (12, 2, 1)])),
    st.tuples(st.just("transpose"), st.tuples(st.integers(-3, 2), st.integers(-3, 2))),
)


@settings(max_examples=15)
@given(st.lists(steps, min_size=1, max_size=5))
def test_chains_of_views_and_permutations_keep_their_meaning(chain: list[tuple[str, Any]]) -> None:
    def function(x: Tensor) -> Tensor:
        for kind, argument in chain:
            if kind == "transpose":
                x = x.transpose(*argument)
            else:
                x = x.permute(*argument) if kind == "permute" else x.reshape(argument)
        return x * 2

    program = program_of(function, X)
    simplified = simplify(program)
    assert torch.equal(run(simplified, X)[0], function(X))
    assert operators(simplified).total() <= operators(program).total()


@given(
    size=st.integers(1, 9),
    start=st.one_of(st.none(), st.integers(-12, 12)),
    end=st.one_of(st.none(), st.integers(-12, 12)),
    step=st.integers(1, 4),
)
def test_slice_of_counts_from_the_front(size: int, start: int | None, end: int | None, step: int) -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    x.meta["val"] = torch.zeros(2, size)
    cut = slice_of(graph.call_function(aten.slice.Tensor, (x, -1, start, end, step)))
    assert (cut.source, cut.dim, cut.step) == (x, 1, step)
    assert list(range(size))[cut.start : cut.end : cut.step] == list(range(size))[start:end:step]


def test_decisions_become_further_outputs() -> None:
    program = raise_merges(program_of(lambda x: x.topk(2, -1).values * 2, X), 0).program
    exposed = expose_decisions(program)
    outputs = run(exposed, X)
    assert torch.equal(outputs[0], run(program, X)[0])
    assert torch.equal(outputs[1], X.reshape(6, 4).topk(2, -1).indices)
    assert len(run(program, X)) == 1
