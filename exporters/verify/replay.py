"""Run a captured program in PyTorch, recording its decisions, or with decisions forced from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from tm_export.exporters.dialect import DECISIONS

_TOPK: Final = torch.ops.aten.topk.default
_TOPK_DEFAULTS: Final = (("dim", -1), ("largest", True), ("sorted", True))


@dataclass(frozen=True)
class Decision:
    """What was decided at one node: the scores it saw, [B, N] or [B, M, N], and the index it gave."""

    scores: Tensor
    index: Tensor
    op: Any
    descending: bool


@dataclass(frozen=True)
class Replay:
    """A run's outputs, and what was decided on the way, in graph order."""

    outputs: tuple[Tensor, ...]
    decisions: tuple[Decision, ...]


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
        result = _stable_topk(*self.fetch_args_kwargs_from_env(n)) if n.target is _TOPK else super().run_node(n)
        if n.target not in DECISIONS:
            return result
        args, _ = self.fetch_args_kwargs_from_env(n)
        # The decision that these scores lead to, for comparison, even where another is forced.
        self.decisions.append(Decision(args[0], result, n.target, bool(args[-1])))
        return result if self._forced is None else next(self._forced).to(torch.int64)


def _stable_topk(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """The k first, of equal ones those in front, as every engine has it: PyTorch's own takes any of them."""
    x, k, dim, largest, _ = (*args, *(kwargs.get(name, default) for name, default in _TOPK_DEFAULTS[len(args) - 2 :]))
    values, index = x.sort(dim=dim, descending=largest, stable=True)
    return values.narrow(dim, 0, k), index.narrow(dim, 0, k)


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
