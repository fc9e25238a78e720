"""How far an export is: what a log and a terminal are told."""

import io
import re

import pytest
from rich.console import Console

from tm_export.exporters.record import progress
from tm_export.exporters.record.progress import PlainProgress, SilentProgress, TerminalProgress, counted


def test_a_log_is_told_how_many_there_are_still_and_how_long_that_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    log = io.StringIO()
    for _ in counted(range(20), "blocks written", PlainProgress(log)):
        now[0] += 4
    # After 4, 16, 28, … seconds: not more than once in ten, and not when nothing is left.
    lines = log.getvalue().splitlines()
    assert lines[:2] == ["blocks written: 1 of 20, 1:16 left", "blocks written: 4 of 20, 1:04 left"]
    assert lines[-1] == "blocks written: 19 of 20, 0:04 left"
    assert len(lines) == 7


def test_a_terminal_shows_it_beside_the_spinner() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    report = TerminalProgress(console)
    with report.stage("denoiser", "full", "verify"):
        for _ in counted(range(3), "blocks verified", report):
            pass
    assert re.search(r"blocks verified: 3 of 3, 0:00 left", screen.getvalue())
    assert "denoiser full: verify" in screen.getvalue()


def test_silence_is_silent_and_all_items_come() -> None:
    assert list(counted([3, 1, 2], "items", SilentProgress())) == [3, 1, 2]
