"""Parity that knows about decisions.

Merging is discontinuous: where two scores are equal but for rounding, an engine may merge another token than
PyTorch does, and every number after that differs, rightly. So an engine's decisions are read out and compared on
their own, against the scores; then PyTorch is run again with the engine's decisions forced upon it, and the outputs
must agree within the usual bound. No bound is ever loosened for a flip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from tm_export.exporters.record.records import ParityRecord
from tm_export.exporters.reference.decisions import Agreement, compare_decision
from tm_export.exporters.reference.gates import Gate
from tm_export.exporters.reference.replay import Decision, Reference, Replay
from tm_export.runtime.run.closeness import Array, difference

Outputs = Sequence[Tensor]

WHOLE: Final = "all"
"""What records call a component's blocks together, and the component before it is cut."""

NONE: Final = Agreement(0, 0, 0)
"""No decisions."""


@dataclass(frozen=True)
class Subject:
    """What is being verified, as the records name it."""

    component: str
    block: str
    variant: str
    engine: str
    output_names: tuple[str, ...]


def check_parity(
    subject: Subject, inputs: str, reference: Reference, results: Outputs, exposed: Outputs | None, gate: Gate
) -> list[ParityRecord]:
    """One record for each output, against what PyTorch computes on the same inputs.

    Args:
        subject: what is compared.
        inputs: what records call the inputs.
        reference: PyTorch on them.
        results: the artifact's outputs.
        exposed: those of the same program with its decisions as further outputs; None for one that decides nothing.
        gate: what has to hold.
    """
    if exposed is None:
        return records_of(subject, inputs, results, reference.run.outputs, NONE, gate)
    wanted, agreement = with_decisions(reference, exposed[len(reference.run.outputs) :], gate)
    return records_of(subject, inputs, results, wanted.outputs, agreement, gate)


def with_decisions(reference: Reference, decided: Outputs, gate: Gate) -> tuple[Replay, Agreement]:
    """PyTorch's run with an engine's decisions, and how far these agree with its own.

    Decisions that are wrong and change nothing, such as the order of rows that nobody reads, agree.
    """
    run = reference.run
    if all(torch.equal(d.index, i.to(torch.int64)) for d, i in zip(run.decisions, decided, strict=True)):
        total = sum(index.numel() for index in decided)
        return run, Agreement(total, total, 0)
    wanted = reference.forced([_possible(d, i) for d, i in zip(run.decisions, decided, strict=True)])
    agreement = NONE
    for decision, index in zip(wanted.decisions, decided, strict=True):
        agreement += compare_decision(decision, index, gate)
    if not agreement.within(gate) and all(map(_same, wanted.outputs, run.outputs)):
        return run, Agreement(agreement.total, agreement.total, 0)
    return wanted, agreement


def records_of(
    subject: Subject, inputs: str, results: Outputs, expected: Outputs, agreement: Agreement, gate: Gate
) -> list[ParityRecord]:
    """One record for each output: how far it is from what was expected, and how many decisions agreed."""
    records = []
    for name, result, wanted in zip(subject.output_names, results, expected, strict=True):
        single = wanted.dim() == 0 and result.numel() == 1  # an artifact may give one number as an array of one
        found = difference(_array(result.reshape(()) if single else result), _array(wanted))
        records.append(
            ParityRecord(
                component=subject.component,
                block=subject.block,
                variant=subject.variant,
                engine=subject.engine,
                inputs=inputs,
                output=name,
                max_abs_error=found.max_abs_error,
                relative_error=found.relative_error,
                psnr_db=found.psnr_db,
                decisions=agreement.total,
                decisions_agreeing=agreement.agreeing,
                decisions_tied=agreement.tied,
                passed=gate.holds(found) and agreement.within(gate),
                gate=gate.name,
            )
        )
    return records


def _possible(decision: Decision, index: Tensor) -> Tensor:
    """The index, where it is out of range one that is within and wrong: what reads it then shows it."""
    candidates = decision.scores.shape[-1]
    is_within = (index >= 0) & (index < candidates)
    return index.to(torch.int64).where(is_within, (decision.index + 1) % candidates)


def _same(one: Tensor, other: Tensor) -> bool:
    return difference(_array(one), _array(other)).max_abs_error == 0


def _array(tensor: Tensor) -> Array:
    tensor = tensor.detach()
    array: Array = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
    return array
