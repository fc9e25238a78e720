"""What an export made, before it becomes a bundle."""

from __future__ import annotations

from dataclasses import dataclass

from tm_export.exporters.record.records import ExportReport
from tm_export.exporters.report.page import Picture
from tm_export.runtime import manifest


@dataclass(frozen=True)
class Compiled:
    """What an export made: the manifest's components and golden runs, and what it found out on the way."""

    components: tuple[manifest.Component, ...]
    golden: tuple[manifest.Golden, ...]
    report: ExportReport
    pictures: tuple[Picture, ...] = ()
