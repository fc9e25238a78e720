"""The files in a bundle's `reports/`: written from an `ExportReport`, and read back into one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from tm_export.exporters.record.records import (
    ExportReport,
    MergeSite,
    ParityRecord,
    PlacementRecord,
)
from tm_export.exporters.report.page import Picture, render

PARITY: Final = "parity.json"

_MERGES = TypeAdapter(tuple[MergeSite, ...])
_PARITY = TypeAdapter(tuple[ParityRecord, ...])
_PLACEMENT = TypeAdapter(tuple[PlacementRecord, ...])
_LISTS = {"merges", "parity", "placement"}


def write_reports(report: ExportReport, folder: Path, pictures: Sequence[Picture] = ()) -> None:
    """Write `merges.json`, `parity.json`, `placement.json` (lists of records), `export.json`, `index.html`.

    `export.json` and `index.html` hold times and memory, and so differ from run to run; the others do not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "merges.json", _MERGES.dump_json(report.merges, indent=2))
    _write(folder / PARITY, _PARITY.dump_json(report.parity, indent=2))
    _write(folder / "placement.json", _PLACEMENT.dump_json(report.placement, indent=2))
    rest = report.model_dump(mode="json", exclude=_LISTS) | {"peak_rss_bytes": peak_rss_bytes(report)}
    _write(folder / "export.json", json.dumps(rest, indent=2).encode())
    _write(folder / "index.html", render(report, pictures).encode())


def read_reports(folder: Path) -> ExportReport:
    """What `write_reports` wrote."""
    rest = json.loads((folder / "export.json").read_bytes())
    del rest["peak_rss_bytes"]
    return ExportReport(
        merges=_MERGES.validate_json((folder / "merges.json").read_bytes()),
        parity=_PARITY.validate_json((folder / PARITY).read_bytes()),
        placement=_PLACEMENT.validate_json((folder / "placement.json").read_bytes()),
        **rest,
    )


def peak_rss_bytes(report: ExportReport) -> int:
    """The most memory that any stage's process held."""
    return max((stage.peak_rss_bytes for stage in report.stages), default=0)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content + b"\n")
