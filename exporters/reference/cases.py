"""What a variant is verified on: its example inputs and fresh ones, each with what the user's own module makes of them.

Before anything is converted, the captured and the raised program are held against the module on all of them, so that
no stage is its own witness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from tm_export.exporters.errors import UsageError
from tm_export.exporters.graph.dialect import ORDER
from tm_export.exporters.record.records import ParityRecord
from tm_export.exporters.reference.eager import Call, EagerRun, Stored, run_eager
from tm_export.exporters.reference.first_operator import first_nan, first_unsteady
from tm_export.exporters.reference.fresh import FRESH, fresh_inputs
from tm_export.exporters.reference.gates import Gate
from tm_export.exporters.reference.parity import NONE, Subject, check_parity, records_of
from tm_export.exporters.reference.replay import Decision, Reference, Replay, replay

EXAMPLE: Final = "example"
CAPTURED: Final = "captured"
"""What records call the captured program, run by PyTorch."""
RAISED: Final = "raised"
"""The same program with its merges recognised, run by PyTorch."""

_SAME: Final = 1e-3
"""Two decisions are the same one if their scores are as close as this, relative to the largest."""


@dataclass(frozen=True)
class Case:
    """Inputs, and what PyTorch makes of them: the module itself, or for a streamed model the captured program."""

    name: str
    inputs: tuple[Tensor, ...]
    reference: Reference


@dataclass(frozen=True)
class SourceCheck:
    """What became of a variant before it was converted: its cases, how they passed, and what was noticed.

    `draws` are the places at which the module draws random numbers.
    """

    cases: tuple[Case, ...]
    records: tuple[ParityRecord, ...]
    draws: tuple[str, ...]


def check_source(
    subject: Callable[[str], Subject],
    module: nn.Module,
    captured: ExportedProgram,
    raised: ExportedProgram,
    examples: tuple[Tensor, ...],
    fresh: Callable[[int], tuple[Tensor, ...]] | None,
    seed: int,
    gate: Gate,
    stored: Stored | None,
) -> SourceCheck:
    """Run the module, the captured and the raised program on the examples and on fresh inputs, and compare.

    Args:
        subject: from an engine's name to what records call the comparison.
        module: what the user gave.
        captured: the module as it was captured.
        raised: the same, its merges recognised.
        examples: the example inputs.
        fresh: from a seed to further inputs, for a model that can make them; else they are drawn like the examples.
        seed: of random numbers in the module, which the captured program has as constants.
        gate: what has to hold.
        stored: weights as an artifact holds them, where they are not the module's: the cases compute with these.

    Raises `UsageError` if the module gives another result in each run, or none but NaN.
    """
    first = _steady_run(module, examples, seed)
    cases, records = [], []
    sets = [(EXAMPLE, examples), *_fresh_sets(module, examples, first, fresh, seed)]
    for name, inputs in sets:
        run = first if name == EXAMPLE else run_eager(module, inputs, seed)
        recognised = replay(raised, inputs)
        reference = reference_by(partial(run_eager, module, inputs, seed), run, recognised.decisions)
        plain = replay(captured, inputs)
        records += records_of(subject(CAPTURED), name, plain.outputs, run.outputs, NONE, gate)
        records += check_parity(subject(RAISED), name, reference, recognised.outputs, recognised.exposed, gate)
        if stored is not None:
            again = partial(run_eager, module, inputs, seed, stored=stored)
            reference = reference_by(again, again(), recognised.decisions, run)
        cases.append(Case(name, inputs, reference))
    return SourceCheck(tuple(cases), tuple(records), first.draws)


def _fresh_sets(
    module: nn.Module,
    examples: tuple[Tensor, ...],
    first: EagerRun,
    fresh: Callable[[int], tuple[Tensor, ...]] | None,
    seed: int,
) -> list[tuple[str, tuple[Tensor, ...]]]:
    found = []
    for i in range(1, FRESH + 1):
        drawn = (
            fresh(seed + i) if fresh is not None else fresh_inputs(examples, seed + i, _accepts(module, first, seed))
        )
        if drawn is not None:
            found.append((f"fresh {i}", drawn))
    return found


def _accepts(module: nn.Module, first: EagerRun, seed: int) -> Callable[[tuple[Tensor, ...]], bool]:
    """Whether the module runs on inputs, and gives no NaN where it gave none on its examples."""

    def accepts(inputs: tuple[Tensor, ...]) -> bool:
        try:
            run = run_eager(module, inputs, seed)
        except Exception:  # whatever the user's own code raises on numbers that it was not made for
            return False
        return all(
            not new.isnan().any() or bool(old.isnan().any())
            for new, old in zip(run.outputs, first.outputs, strict=True)
        )

    return accepts


def _steady_run(module: nn.Module, examples: tuple[Tensor, ...], seed: int) -> EagerRun:
    """The run on the examples, which another must repeat."""
    first, second = run_eager(module, examples, seed), run_eager(module, examples, seed)
    name = type(module).__name__
    for i, (one, other) in enumerate(zip(first.outputs, second.outputs, strict=True)):
        if not torch.equal(one.nan_to_num(), other.nan_to_num()):
            raise UsageError(
                f"output {i} of {name} differs from run to run on the same inputs"
                f"{first_unsteady(module, examples, seed)}, so there is nothing to hold an export against: let forward "
                "depend on its inputs alone"
            )
        if one.numel() and one.is_floating_point() and one.isnan().all():
            raise UsageError(
                f"output {i} of {name} is NaN everywhere on its example inputs{first_nan(module, examples, seed)}: "
                "give inputs on which it gives numbers"
            )
    return first


def reference_by(
    again: Callable[..., EagerRun], run: EagerRun, recognised: Sequence[Decision], seen: EagerRun | None = None
) -> Reference:
    """PyTorch's run in the terms of a raised program: with its decisions, in its order.

    Args:
        again: runs it once more, with decisions forced by the number of their call.
        run: the run.
        recognised: what the raised program decided.
        seen: a run that saw the same scores as that one, where `run` did not, since its weights are rounded.
    """
    numbers = _numbers_of(recognised, (seen or run).calls)

    def as_replay(made: EagerRun) -> Replay:
        decisions = (
            seen if number is None else _decision(seen, made.calls[number])
            for seen, number in zip(recognised, numbers, strict=True)
        )
        return Replay(made.outputs, tuple(decisions))

    def forced(indices: Sequence[Tensor]) -> Replay:
        given = {
            number: index.to(torch.int64).reshape(run.calls[number].index_RK.shape)
            for number, index in zip(numbers, indices, strict=True)
            if number is not None
        }
        return as_replay(again(forced=given))

    return Reference(as_replay(run), forced)


def _decision(like: Decision, call: Call) -> Decision:
    """What a call decided, in the shape of the raised program's decision."""
    scores, index = call.scores_RN.reshape(like.scores.shape), call.index_RK.reshape(like.index.shape)
    return Decision(scores, index, like.op, like.descending, call.is_stable)


def _numbers_of(recognised: Sequence[Decision], calls: Sequence[Call]) -> list[int | None]:
    """Which call of the module's each decision is: the first one, not yet taken, that saw the same scores.

    None for a decision that the module does not make, such as the order of a mask's positions.
    """
    taken: set[int] = set()
    numbers: list[int | None] = []
    for decision in recognised:
        number = next((i for i, call in enumerate(calls) if i not in taken and _is_same(decision, call)), None)
        taken |= set() if number is None else {number}
        numbers.append(number)
    return numbers


def _is_same(decision: Decision, call: Call) -> bool:
    scores_RN = decision.scores.reshape(-1, decision.scores.shape[-1])
    chosen = decision.index.shape[-1] if decision.op is ORDER else 1
    if scores_RN.shape != call.scores_RN.shape or chosen != call.index_RK.shape[-1]:
        return False
    one, other = scores_RN.to(torch.float64), call.scores_RN.to(torch.float64)
    finite = one.isfinite()
    if not torch.equal(finite, other.isfinite()):
        return False
    scale = float(other[finite].abs().max()) if finite.any() else 0.0
    return bool(((one - other).abs()[finite] <= _SAME * scale).all())
