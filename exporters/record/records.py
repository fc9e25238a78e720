"""What an export found out: the records that become the files in `reports/`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MergeSite(_Record):
    """One place in the model where tokens merge, or come apart again."""

    component: str
    variant: str
    source: str
    """`file.py:12: code` of the user."""
    kind: str
    """"merge", "unmerge", "prune" or "cluster"."""
    tokens_before: int
    tokens_after: int
    form: str
    reason: str
    """Why this form: the cheapest by the cost model and what it was compared with, or as asked for."""
    costs_ns: Mapping[str, float]
    """The cost model's estimate for each form that the target has."""
    macs_saved: int
    """Multiply-adds that the call would have needed more without this merge, those before it done."""
    share_saved: float
    """The same as a share of what the call would need if nothing merged."""


class ParityRecord(_Record):
    """One comparison of what an engine computed with what PyTorch computes."""

    component: str
    block: str
    variant: str
    engine: str
    """An engine's name; or what PyTorch ran: "captured", the program as it was captured, "raised", the same with its
    merges recognised, "rewrite", the same in the target's operators."""
    inputs: str
    """"example", or "fresh 1" and so on: inputs that were drawn for the comparison."""
    output: str
    max_abs_error: float
    relative_error: float
    """`max_abs_error` over the largest magnitude in PyTorch's output."""
    psnr_db: float | None
    """None where the two agree to the bit."""
    decisions: int
    decisions_agreeing: int
    decisions_tied: int
    """Of those that differ, how many lie within the tie margin: two scores that are equal but for rounding."""
    passed: bool
    gate: str
    """The bound that had to hold."""


class WideningRecord(_Record):
    """Floats of 32 bits in the place of others, and the bytes of all weights in both."""

    dtypes: tuple[str, ...]
    bytes_before: int
    bytes_after: int


class ReferenceRecord(_Record):
    """What one variant was held against."""

    component: str
    variant: str
    reference: str
    """"module": the user's own, in eager. "captured": the captured program, block by block, since the module's weights
    do not fit into memory; then what it was captured from was held against it in a smaller model of the same classes,
    if there is one."""
    twin: str | None
    """That smaller model."""
    first_layers: str | None
    """Of a streamed model, the part up to which its captured program was held against the module in eager, on the real
    weights; none where its layers cannot be run one by one."""
    unheld_blocks: tuple[str, ...]
    """Of a streamed model, the blocks that begin or end in the middle of what a rule rewrote: those are held against
    the raised program alone."""
    inputs: tuple[str, ...]
    """"example", and "fresh 1" and so on: how many sets of inputs it was run on."""
    widened: WideningRecord | None = None
    """Where it computes in floats that no target has: what those of 32 bits cost."""
    draws: tuple[str, ...]
    """Where it draws random numbers, which are the same in every run of the artifact."""


class PlacementRecord(_Record):
    """Where an artifact's operators run."""

    component: str
    block: str
    variant: str
    regions: int
    operators: Mapping[str, int]
    outside: Mapping[str, int]


class StageRecord(_Record):
    """What one stage of the export took."""

    component: str
    variant: str
    stage: str
    """capture, rewrite, emit or verify."""
    seconds: float
    peak_rss_bytes: int
    """Of the process that did the work, up to the end of the stage."""


class ComponentBlocks(_Record):
    """How a component was cut, and how many of its blocks a converter made.

    `programs` of its blocks are different; the others differ in weights alone. `conversions` ran in this export:
    none for blocks that an interrupted one had finished.
    """

    component: str
    blocks: int
    programs: int
    conversions: int

    @property
    def reused(self) -> int:
        """Blocks that were written by weights alone."""
        return self.blocks - self.programs


class ExportReport(_Record):
    """All that `reports/` says, in one value."""

    model: str
    target: str
    options: Mapping[str, Any]
    merges: tuple[MergeSite, ...]
    parity: tuple[ParityRecord, ...]
    placement: tuple[PlacementRecord, ...]
    stages: tuple[StageRecord, ...]
    total_seconds: float
    total_bytes: int
    blocks: tuple[ComponentBlocks, ...] = ()
    references: tuple[ReferenceRecord, ...] = ()

    @classmethod
    def empty(cls, model: str, target: str, options: Mapping[str, Any]) -> ExportReport:
        """The report of an export that has done nothing yet."""
        return cls(
            model=model,
            target=target,
            options=options,
            merges=(),
            parity=(),
            placement=(),
            stages=(),
            total_seconds=0,
            total_bytes=0,
        )

    def with_more(self, **records: tuple[Any, ...]) -> ExportReport:
        """The report with further records at the end of each of these lists."""
        return self.model_copy(update={name: (*getattr(self, name), *more) for name, more in records.items()})
