"""A pass over a graph keeps what it knows of nodes that are let be, and derives anew what has changed."""

import copy

import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from tests.zoo import ZOO
from tm_export.exporters.capture.capture import capture
from tm_export.exporters.graph.nodes import fake_mode_of, placeholders_of
from tm_export.exporters.graph.retrace import KEEP, retrace
from tm_export.exporters.lowering.choose import lower_merges
from tm_export.exporters.merging.raise_merges import raise_merges
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.targets.base import find_target, target_names


def layout(value: object) -> object:
    if isinstance(value, list | tuple):
        return [layout(each) for each in value]
    return (tuple(value.shape), value.stride(), value.dtype) if isinstance(value, Tensor) else value


def derived(program: ExportedProgram) -> dict[str, object]:
    """The layout of every node's value by PyTorch's own interpreter, from the inputs' layouts."""
    found: dict[str, object] = {}

    class Deriver(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            value = super().run_node(n)
            found[n.name] = layout(value)
            return value

    with fake_mode_of(program):
        Deriver(program.graph_module).run(*(node.meta["val"] for node in placeholders_of(program.graph)))
    return found


def noted(program: ExportedProgram) -> dict[str, object]:
    return {node.name: layout(node.meta["val"]) for node in program.graph.nodes if node.op == "call_function"}


@pytest.fixture(scope="module")
def raised() -> ExportedProgram:
    return raise_merges(capture(*ZOO["tome_sizes"]()), 0).program


@pytest.mark.parametrize("target", target_names())
def test_what_is_noted_of_a_node_after_all_passes_is_what_pytorch_derives(raised: ExportedProgram, target: str) -> None:
    options = ExportOptions()
    chosen, program = find_target(target), copy.deepcopy(raised)
    program = lower_merges(retrace(program, lambda _node, _values: KEEP), chosen.costs(options), options, half=False)
    program = retrace(chosen.legalize(program, options).program, lambda _node, _values: KEEP)
    wanted = derived(program)
    assert noted(program) == {name: wanted[name] for name in noted(program)}


class Halves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        first, second = (x * 2).chunk(2, dim=1)
        return torch.relu(first + second)


def test_what_follows_from_inputs_of_another_layout_is_derived_anew() -> None:
    program = retrace(capture(Halves(), (torch.ones(4, 6),)), lambda _node, _values: KEEP)
    before = noted(program)
    (x,) = placeholders_of(program.graph)
    with fake_mode_of(program):
        x.meta["val"] = torch.empty(6, 4).t()
    program = retrace(program, lambda _node, _values: KEEP)
    wanted = derived(program)
    assert noted(program) == {name: wanted[name] for name in before} != before


def test_another_number_of_the_same_size_is_another_argument() -> None:
    """1, 1.0 and True are equal to Python, and make tensors of different types."""

    class Times(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 1

    program = retrace(capture(Times(), (torch.ones(4, dtype=torch.int64),)), lambda _node, _values: KEEP)
    (times,) = (node for node in program.graph.nodes if node.op == "call_function")
    assert times.meta["val"].dtype is torch.int64
    times.args = (times.args[0], 1.0)
    program = retrace(program, lambda _node, _values: KEEP)
    (times,) = (node for node in program.graph.nodes if node.op == "call_function")
    assert times.meta["val"].dtype is torch.float32
