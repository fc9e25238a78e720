"""Time and memory of each stage, as the export report lists them."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tm_export.exporters.record.progress import Progress
from tm_export.exporters.record.records import StageRecord


@dataclass
class Stopwatch:
    """Measures the stages of one variant, and tells the user about them."""

    component: str
    variant: str
    progress: Progress
    records: list[StageRecord] = field(default_factory=list)
    worker_peak_bytes: int = 0
    """Set by a stage whose work was done in another process."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what is done inside."""
        began = time.monotonic()
        self.worker_peak_bytes = 0
        with self.progress.stage(self.component, self.variant, name):
            yield
        self.records.append(
            StageRecord(
                component=self.component,
                variant=self.variant,
                stage=name,
                seconds=time.monotonic() - began,
                peak_rss_bytes=max(peak_rss_bytes(), self.worker_peak_bytes),
            )
        )


def peak_rss_bytes() -> int:
    """The largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
