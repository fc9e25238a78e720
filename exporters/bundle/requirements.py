"""What must hold of a compiled model before it becomes a bundle."""

from __future__ import annotations

from collections.abc import Iterable

from tm_export.exporters.errors import BudgetExceeded, ParityFailed
from tm_export.exporters.record.records import ParityRecord, PlacementRecord
from tm_export.exporters.reference.cases import CAPTURED, RAISED


def require_parity(records: Iterable[ParityRecord]) -> None:
    """Raise `ParityFailed` naming the first record that did not pass."""
    failed = [record for record in records if not record.passed]
    if not failed:
        return
    first = failed[0]
    psnr = "" if first.psnr_db is None else f", PSNR {first.psnr_db:.1f} dB"
    decisions = f", {first.decisions_agreeing} of {first.decisions} merge decisions agree" if first.decisions else ""
    more = f"; {len(failed) - 1} more comparisons failed" if len(failed) > 1 else ""
    raise ParityFailed(
        f"{first.component}/{first.block}/{first.variant} on {first.engine} differs from PyTorch on {_inputs(first)}: "
        f"output {first.output!r} is off by up to {first.max_abs_error:.3g} "
        f"(relative {first.relative_error:.3g}{psnr}{decisions}), the bound is {first.gate}{more}. {_advice(first)}"
    )


def _inputs(record: ParityRecord) -> str:
    return "its example inputs" if record.inputs == "example" else f"inputs that were drawn ({record.inputs})"


def _advice(record: ParityRecord) -> str:
    """What can help, by the stage that failed."""
    if record.engine in (CAPTURED, RAISED):
        return (
            "The program that was made of the model is wrong, before any conversion: report it with the model, and "
            "leave out what the reports name"
        )
    if record.gate.startswith("fp16"):
        return "Try --precision fp32, which has more digits and a larger range"
    return "Try another --merge-lowering, and report it with the model"


def require_regions(records: Iterable[PlacementRecord], most: int) -> None:
    """Raise `BudgetExceeded` naming the first artifact in more than `most` regions."""
    for record in records:
        if record.regions > most:
            outside = ", ".join(record.outside) or "none"
            raise BudgetExceeded(
                f"{record.component}/{record.block}/{record.variant} is cut into {record.regions} regions, "
                f"--max-regions allows {most}. Operators outside: {outside}; try another --merge-lowering"
            )
