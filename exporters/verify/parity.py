"""Parity that knows about decisions.

Merging is discontinuous: where two scores are equal but for rounding, an engine may merge another token than
PyTorch does, and every number after that differs, rightly. So an engine's decisions are read out and compared on
their own, against the scores; then PyTorch is run again with the engine's decisions forced upon it, and the outputs
must agree within the usual bound. No bound is ever loosened for a flip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tm_export.exporters.records import ParityRecord
from tm_export.exporters.verify.decisions import Agreement, compare_decision
from tm_export.exporters.verify.gates import Gate, difference
from tm_export.exporters.verify.replay import Reference

Outputs = Sequence[Tensor]


@dataclass(frozen=True)
class Subject:
    """What is being verified, as the records name it."""

    component: str
    block: str
    variant: str
    engine: str
    output_names: tuple[str, ...]


def check_parity(
    subject: Subject,
    reference: Reference,
    run: Callable[[], Outputs],
    run_exposed: Callable[[], Outputs] | None,
    gate: Gate,
) -> list[ParityRecord]:
    """One record for each output, against what the captured program computes on the same inputs.

    `run` gives the artifact's outputs. `run_exposed` gives those of the same program with its decisions as
    further outputs, and is None for a program that decides nothing.
    """
    results = tuple(run())
    agreement = Agreement(0, 0, 0)
    wanted = reference.run
    if run_exposed is not None:
        exposed = tuple(run_exposed())
        decided = exposed[len(wanted.outputs) :]
        same = all(torch.equal(d.index, i.to(torch.int64)) for d, i in zip(wanted.decisions, decided, strict=True))
        # An index out of range is a wrong decision, which is counted; PyTorch has to be forced to one within.
        possible = [i.clamp(0, d.scores.shape[-1] - 1) for d, i in zip(wanted.decisions, decided, strict=True)]
        wanted = wanted if same else reference.forced(possible)
        for decision, index in zip(wanted.decisions, decided, strict=True):
            agreement += compare_decision(decision, index, gate.tie_margin)
    return records_of(subject, results, wanted.outputs, agreement, gate)


def records_of(
    subject: Subject, results: Outputs, expected: Outputs, agreement: Agreement, gate: Gate
) -> list[ParityRecord]:
    """One record for each output: how far it is from what was expected, and how many decisions agreed."""
    records = []
    for name, result, wanted in zip(subject.output_names, results, expected, strict=True):
        found = difference(_array(result), _array(wanted))
        records.append(
            ParityRecord(
                component=subject.component,
                block=subject.block,
                variant=subject.variant,
                engine=subject.engine,
                output=name,
                max_abs_error=found.max_abs_error,
                relative_error=found.relative_error,
                psnr_db=found.psnr_db,
                decisions=agreement.total,
                decisions_agreeing=agreement.agreeing,
                decisions_tied=agreement.tied,
                passed=found.within(gate) and agreement.excusable,
                gate=gate.name,
            )
        )
    return records


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to(torch.float64).numpy()
