"""What the person who imports a report knows of it, and the file does not say."""

from __future__ import annotations

from dataclasses import dataclass

from tm_export.runtime.measure.report_terms import Build, DeviceKind


@dataclass(frozen=True)
class Stated:
    """What to put where a file says nothing; nothing is guessed in its place.

    Attributes:
        device: the device's name.
        device_kind: whether it is a phone, a tablet, a desktop or an emulator.
        build: of the app that measured.
        warmup_runs: how many of the first runs to leave out, where the file lists single runs.
    """

    device: str | None = None
    device_kind: DeviceKind = "unknown"
    build: Build = "unknown"
    warmup_runs: int = 0
