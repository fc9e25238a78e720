"""What must hold of a compiled model before it becomes a bundle."""

from __future__ import annotations

from collections.abc import Iterable

from tm_export.exporters.errors import BudgetExceeded, ParityFailed
from tm_export.exporters.records import ParityRecord, PlacementRecord


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
        f"{first.component}/{first.block}/{first.variant} on {first.engine} differs from PyTorch: "
        f"output {first.output!r} is off by up to {first.max_abs_error:.3g} "
        f"(relative {first.relative_error:.3g}{psnr}{decisions}), the bound is {first.gate}{more}. "
        "Try --precision fp32 or another --merge-lowering"
    )


def require_regions(records: Iterable[PlacementRecord], most: int) -> None:
    """Raise `BudgetExceeded` naming the first artifact in more than `most` regions."""
    for record in records:
        if record.regions > most:
            outside = ", ".join(record.outside) or "none"
            raise BudgetExceeded(
                f"{record.component}/{record.block}/{record.variant} is cut into {record.regions} regions, "
                f"--max-regions allows {most}. Operators outside: {outside}; try another --merge-lowering"
            )
