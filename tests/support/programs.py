"""Small programs to test rewrites on: capture a function, count its operators, run it."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from tm_export.exporters.capture.capture import capture
from tm_export.exporters.graph.rule import Firing, apply_rules
from tm_export.exporters.graph.simplify import simplify
from tm_export.exporters.merging.raising import RAISING
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.reference.replay import replay
from tm_export.exporters.targets.base import Function, Signature, Target
from tm_export.exporters.targets.specs import tensor_specs
from tm_export.runtime.manifest import TensorSpec, Variant


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


def emit_one(
    target: Target,
    program: ExportedProgram,
    signature: Signature,
    folder: Path,
    options: ExportOptions,
    inputs: Sequence[Tensor] = (),
    outputs: Sequence[Tensor] = (),
) -> tuple[Path, Variant]:
    """Emit a block of one variant; returns its artifact, and the variant to open it by."""
    folder.mkdir(exist_ok=True)
    target.emit({"full": Function(program, signature)}, folder, "block", options)
    name = target.artifact("block", "full")
    variant = Variant(
        name="full",
        artifact=name,
        function=target.function("full", 1),
        inputs=tensor_specs(signature.inputs, inputs, target) if inputs else (),
        outputs=tensor_specs(signature.outputs, outputs, target)
        if outputs
        else (TensorSpec(name="unknown", dtype="float32", shape=()),),
        activation_bytes=0,
    )
    return folder / name, variant
