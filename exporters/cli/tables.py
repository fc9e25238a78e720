"""What `tm-export` shows at the end, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from tm_export.exporters.record.records import MergeSite, ParityRecord
from tm_export.exporters.record.units import in_bytes, in_decibels
from tm_export.models.spec.registry import ModelSpec


def models_table(models: Iterable[ModelSpec]) -> Table:
    """The registry: name, weights and what it is."""
    rows = ((model.name, _origins(model), model.description) for model in models)
    return _table(("model", "weights", "what it is"), rows)


def targets_table(names: Iterable[str]) -> Table:
    """The targets."""
    return _table(("target",), ((name,) for name in names))


def merges_table(sites: Iterable[MergeSite]) -> Table:
    """Each merge site: where, how many tokens, and the form chosen."""
    rows = (
        (
            f"{site.component}/{site.variant}",
            site.kind,
            f"{site.tokens_before} → {site.tokens_after}",
            site.form,
            site.source,
        )
        for site in sites
    )
    return _table(("variant", "kind", "tokens", "form", "source"), rows)


def blocks_table(blocks: Iterable[Mapping[str, Any]]) -> Table:
    """Each block: what it needs, and a name for its program, equal for blocks that differ in weights alone."""
    rows = (
        (
            f"{block['component']}/{block['block']}",
            in_bytes(block["weight_bytes"]),
            in_bytes(block["activation_bytes"]),
            block["structure"],
        )
        for block in blocks
    )
    return _table(("block", "weights", "activations", "program"), rows)


def parity_table(records: Iterable[ParityRecord]) -> Table:
    """For each engine that ran a variant, its worst comparison with PyTorch, the worst of all first."""
    groups: dict[tuple[str, str], list[ParityRecord]] = {}
    for record in records:
        groups.setdefault((f"{record.component}/{record.block}/{record.variant}", record.engine), []).append(record)
    rows = (
        (
            name,
            engine,
            str(len({record.inputs for record in group})),
            (worst := _worst(group)).output,
            f"{worst.relative_error:.1e}",
            in_decibels(worst.psnr_db),
            _decisions(group),
        )
        for (name, engine), group in sorted(groups.items(), key=lambda each: _error(_worst(each[1])), reverse=True)
    )
    columns = ("variant", "engine", "sets of inputs", "worst output", "relative error", "PSNR", "decisions agreeing")
    return _table(columns, rows)


def worst_of(records: Sequence[ParityRecord]) -> str:
    """The comparison that is furthest off, in a line."""
    worst = _worst(records)
    where = f"{worst.component}/{worst.block}/{worst.variant} on {worst.engine}"
    once = {(each.component, each.block, each.variant, each.engine, each.inputs): each for each in records}.values()
    decided, agreeing = (
        sum(counts) for counts in zip(*((r.decisions, r.decisions_agreeing) for r in once), strict=True)
    )
    merges = f"; {agreeing} of {decided} merge decisions agree" if decided else ""
    return f"relative error {worst.relative_error:.1e} in {worst.output} ({where}){merges}"


def _worst(records: Sequence[ParityRecord]) -> ParityRecord:
    return max(records, key=_error)


def _error(record: ParityRecord) -> float:
    return record.relative_error


def _decisions(group: Sequence[ParityRecord]) -> str:
    """How many agree, on all sets of inputs; each is counted once for all outputs."""
    once = {record.inputs: (record.decisions_agreeing, record.decisions) for record in group}
    agreeing, total = (sum(counts) for counts in zip(*once.values(), strict=True))
    return f"{agreeing} of {total}" if total else "none"


def files_table(files: Iterable[tuple[str, int]]) -> Table:
    """Files and their sizes."""
    return _table(("file", "size"), ((path, in_bytes(size)) for path, size in files))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")  # a name is broken, not cut
    for row in rows:
        table.add_row(*row)
    return table


def _origins(model: ModelSpec) -> str:
    """Where the weights of those components come from that have any."""
    return ", ".join({part.weights: None for part in model.components if part.weights != "none"})
