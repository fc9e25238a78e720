"""Run a captured program in PyTorch, recording its decisions, or with decisions forced from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from tm_export.exporters.graph.dialect import DECISIONS


@dataclass(frozen=True)
class Decision:
    """What was decided at one node: the scores it saw, [B, N] or [B, M, N], and the index it gave.

    One that `is_stable` says which of equal scores comes first; of another any answer is right.
    """

    scores: Tensor
    index: Tensor
    op: Any
    descending: bool
    is_stable: bool = True


@dataclass(frozen=True)
class Replay:
    """A run's outputs, and what was decided on the way, in graph order."""

    outputs: tuple[Tensor, ...]
    decisions: tuple[Decision, ...]

    @property
    def exposed(self) -> tuple[Tensor, ...] | None:
        """The outputs, and the decisions behind them; None where nothing was decided."""
        return (*self.outputs, *(decision.index for decision in self.decisions)) if self.decisions else None


@dataclass(frozen=True)
class Reference:
    """What PyTorch computes on some inputs, and what it computes on them with other decisions.

    The program is made for each run and let go of after it: its weights are not in memory while an engine's are.
    """

    run: Replay
    forced: Callable[[Sequence[Tensor]], Replay]


class _Replayer(fx.Interpreter):
    def __init__(self, program: ExportedProgram, forced: Sequence[Tensor] | None) -> None:
        super().__init__(program.graph_module)
        self._forced = None if forced is None else iter(forced)
        self.decisions: list[Decision] = []

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.target not in DECISIONS:
            return result
        args, _ = self.fetch_args_kwargs_from_env(n)
        # The decision that these scores lead to, for comparison, even where another is forced.
        self.decisions.append(Decision(args[0], result, n.target, bool(args[-1])))
        return result if self._forced is None else next(self._forced).to(torch.int64)


class _StableTopk(fx.Interpreter):
    """Of equal scores topk takes those in front, as every engine has it: PyTorch's own takes any of them."""

    def run_node(self, n: fx.Node) -> Any:
        if n.target is not torch.ops.aten.topk.default:
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        given = dict(zip(("input", "k", "dim", "largest"), args, strict=False)) | kwargs
        dim = given.get("dim", -1)
        ordered = given["input"].sort(dim=dim, descending=given.get("largest", True), stable=True)
        return tuple(part.narrow(dim, 0, given["k"]) for part in ordered)


def run_lowered(program: ExportedProgram, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Run a program whose merges are lowered, as engines do."""
    with torch.no_grad():
        return tuple(_StableTopk(program.graph_module).run(*flat_inputs(program, inputs)))


def replay(program: ExportedProgram, inputs: Sequence[Tensor], forced: Sequence[Tensor] | None = None) -> Replay:
    """Run the program; with `forced`, every decision's result is replaced by the given one, in graph order.

    What is recorded is always the decision that the program itself would make on the scores that it sees.
    """
    with torch.no_grad():
        replayer = _Replayer(program, forced)
        outputs = replayer.run(*flat_inputs(program, inputs))
    return Replay(tuple(outputs), tuple(replayer.decisions))


def reference_of(program: Callable[[], ExportedProgram], inputs: Sequence[Tensor]) -> Reference:
    """Run the program, to be compared with."""
    return Reference(replay(program(), inputs), lambda forced: replay(program(), inputs, forced))


def flat_inputs(program: ExportedProgram, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Weights, constants and the user's inputs in the order of the graph's placeholders."""
    given = iter(inputs)
    tensors: Mapping[str, Any] = {**program.constants, **program.state_dict}
    return [
        next(given) if spec.kind is InputKind.USER_INPUT else tensors[str(spec.target)]
        for spec in program.graph_signature.input_specs
    ]
