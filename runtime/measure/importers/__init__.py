"""Reports from elsewhere, brought into the schema of `latency_report.json`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Final, cast, get_args

from pydantic import ValidationError

from tm_export.runtime.measure.importers.checked import first_problems
from tm_export.runtime.measure.importers.stated import Stated
from tm_export.runtime.measure.latency_report import LatencyReport
from tm_export.runtime.measure.reading import UnreadableFile
from tm_export.runtime.measure.report_terms import ImportFormat

__all__ = ["Stated", "import_reports"]

_MODULES: Final[dict[ImportFormat, str]] = {
    "executorch": "executorch_benchmark",
    "ort": "ort_profile",
    "xcodebuild": "xcodebuild_log",
    "ai-hub": "ai_hub_perf",
}
assert set(_MODULES) == set(get_args(ImportFormat))


def import_reports(path: Path, source: ImportFormat, stated: Stated) -> tuple[LatencyReport, ...]:
    """The reports in a file of that format, one at least; what it does not say is taken from `stated`.

    Raises:
        UnreadableFile: the file is missing, damaged, or of another format; the message says what was expected.
    """
    module = importlib.import_module(f"{__name__}.{_MODULES[source]}")
    try:
        return cast(tuple[LatencyReport, ...], module.read(path, stated))
    except ValidationError as error:
        raise UnreadableFile(f"{path} has figures that no report can hold ({first_problems(error)})") from None
