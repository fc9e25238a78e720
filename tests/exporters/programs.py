"""Small programs to test rewrites on: capture a function, count its operators, run it."""

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from tm_export.exporters.capture import capture
from tm_export.exporters.rules import RAISING
from tm_export.exporters.rules.base import Firing, apply_rules
from tm_export.exporters.simplify import simplify
from tm_export.exporters.verify.replay import replay


class Lambda(nn.Module):
    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> object:
        return self.function(*inputs)


def program_of(function: Callable[..., object], *inputs: Tensor) -> ExportedProgram:
    module = function if isinstance(function, nn.Module) else Lambda(function)
    return capture(module, inputs)


def run(program: ExportedProgram, *inputs: Tensor) -> tuple[Tensor, ...]:
    return replay(program, inputs).outputs


def operators(program: ExportedProgram) -> Counter[str]:
    """How often each operator stands in the graph, by its name without namespace and overload."""
    return Counter(
        str(node.target).split(".")[1]
        for node in program.graph.nodes
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload)
    )


def nodes_of(program: ExportedProgram, operator: object) -> list[fx.Node]:
    return [node for node in program.graph.nodes if node.target is operator]


def raised(function: Callable[..., object], *inputs: Tensor) -> tuple[ExportedProgram, list[Firing]]:
    """The function's program in the merge dialect, having checked that it computes the same to the bit."""
    before = program_of(function, *inputs)
    expected = run(before, *inputs)
    after, firings = apply_rules(before, RAISING)
    after = simplify(after)
    for got, wanted in zip(run(after, *inputs), expected, strict=True):
        assert got.dtype == wanted.dtype
        assert torch.equal(got, wanted)
    return after, firings


def refusals(firings: list[Firing]) -> list[str]:
    return [firing.reason for firing in firings if not firing.fired]
