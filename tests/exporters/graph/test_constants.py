"""What does not depend on inputs is computed once, at export."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from tests.support.programs import nodes_of, operators, program_of, run
from tm_export.exporters.capture.capture import capture
from tm_export.exporters.graph import constants
from tm_export.exporters.graph.constants import add_constants, constant_of, fold_weights, lift_scalars
from tm_export.exporters.graph.nodes import placeholders_of

X = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))


def constant_inputs(program: ExportedProgram) -> list[fx.Node]:
    return [node for node in placeholders_of(program.graph) if constant_of(node) is not None]


def test_what_needs_no_input_becomes_a_constant() -> None:
    def function(x: Tensor) -> Tensor:
        position = torch.arange(3) / 3
        return x * torch.cos(position)[:, None] + torch.linspace(0, 1, 4)

    program = program_of(function, X)
    assert set(operators(program)) == {"mul", "add"}
    assert torch.equal(run(program, X)[0], function(X))
    assert {constant_of(node).shape for node in constant_inputs(program)} == {(3, 1), (4,)}  # type: ignore[union-attr]


def test_equal_constants_are_stored_once() -> None:
    program = program_of(lambda x: x * torch.arange(4.0) + torch.arange(4.0) - torch.arange(4), X)
    found = [constant_of(node) for node in constant_inputs(program)]
    assert sorted(str(constant.dtype) for constant in found if constant is not None) == ["float32", "int64"]


def test_a_constant_is_whole_not_an_expanded_view() -> None:
    program = program_of(lambda x: x + torch.arange(4.0).expand(3, 4), X)
    (node,) = constant_inputs(program)
    constant = constant_of(node)
    assert constant is not None and constant.flags.c_contiguous
    assert program.state_dict[node.name].is_contiguous()


def test_large_results_stay_operations() -> None:
    program = program_of(lambda x: x[0, 0, 0] * torch.ones(constants.MAX_ELEMENTS + 1).sum(), X)
    assert all(constant_of(node).size <= constants.MAX_ELEMENTS for node in constant_inputs(program))  # type: ignore[union-attr]
    assert operators(program)["ones"] == 1


def test_constants_of_the_users_module_are_known() -> None:
    table = torch.tensor([2, 0, 1])
    program = program_of(lambda x: x[:, table], X)
    (node,) = constant_inputs(program)
    assert np.array_equal(constant_of(node), table.numpy())  # type: ignore[arg-type]


def test_constants_come_in_front_of_the_users_inputs_under_new_names() -> None:
    program = program_of(lambda x: x + 1, X)
    program, first = add_constants(program, [torch.zeros(2)])
    program, second = add_constants(program, [torch.ones(3), torch.ones(4)])
    names = [node.name for node in placeholders_of(program.graph)]
    assert len(set(names)) == 4
    assert names[-1] == "inputs_0"
    assert {node.name for node in (*first, *second)} == set(names[:-1])
    assert torch.equal(run(program, X)[0], X + 1)


class Weights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.a = nn.Parameter(torch.randn(4, 4, generator=generator))
        self.b = nn.Parameter(torch.randn(4, 4, generator=generator))
        self.register_buffer("unsaved", torch.randn(4, generator=generator), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.a @ self.b.T, self.a.sum(0) * self.unsaved) + self.b[0]


def test_weights_are_folded() -> None:
    module = Weights()
    program = capture(module, (X,))
    folded, _ = fold_weights(program)
    assert operators(folded) == {"linear": 1, "add": 1}
    assert torch.equal(run(folded, X)[0], module(X))
    assert len(placeholders_of(folded.graph)) == 4  # weight, bias, the row that is added, x


def test_weights_that_are_read_as_they_are_stay_parameters() -> None:
    program, _ = fold_weights(capture(nn.Linear(4, 4), (X,)))
    assert sorted(program.graph_signature.parameters) == ["bias", "weight"]
    assert constant_inputs(program) == []


SCALED: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda x: x * 0.5,
    lambda x: x + 2,
    lambda x: x / 3,
    lambda x: 1 - x,
    lambda x: x - 0.25,
    lambda x: (x * 0.5 + 0.5) * 0.5,
)


def test_numbers_become_constant_inputs() -> None:
    for function in SCALED:
        program = lift_scalars(program_of(function, X))
        assert torch.equal(run(program, X)[0], function(X))
        for node in program.graph.nodes:
            if node.op == "call_function":
                assert all(isinstance(argument, fx.Node) for argument in node.args)


def test_a_number_that_comes_often_is_stored_once() -> None:
    program = lift_scalars(program_of(SCALED[-1], X))
    assert len(placeholders_of(program.graph)) == 2


def test_numbers_of_integer_operators_stay() -> None:
    program = lift_scalars(program_of(lambda i: (i + 2) * 3, torch.arange(4)))
    assert len(placeholders_of(program.graph)) == 1
    (add,) = nodes_of(program, torch.ops.aten.add.Tensor)
    assert add.args[1] == 2
