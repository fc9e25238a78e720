"""How the making of a video tells how far it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TextIO

from rich.console import Console

from tm_export.runtime.loading.events import Event

Stage = Literal["text", "sampling", "windows", "pictures"]
"""The parts of a video's making, in order: text encoder, denoiser and sampler, both halves of the VAE."""

PLAIN_EVERY_SECONDS: Final = 10.0
"""How often a log is told how far a stage is."""


@dataclass(frozen=True)
class Place:
    """Where the making of a video is: the how manieth of how many runs of a stage, and what is special about it."""

    stage: Stage
    number: int
    count: int
    remark: str = ""

    def __str__(self) -> str:
        """As it is shown."""
        return f"{self.stage} {self.number} of {self.count}" + (f" ({self.remark})" if self.remark else "")


class Progress(Protocol):
    """What the making of a video reports to."""

    def at(self, place: Place) -> None:
        """A run begins."""
        ...

    def block(self, event: Event) -> None:
        """A block has been loaded, run or closed; called from two threads."""
        ...

    def end(self) -> None:
        """No more is told."""
        ...


class SilentProgress:
    """Tells nothing: for `--json`."""

    def at(self, place: Place) -> None:
        """Nothing happens."""

    def block(self, event: Event) -> None:
        """Nothing happens."""

    def end(self) -> None:
        """Nothing happens."""


class PlainProgress:
    """A line when a stage begins, and then not more than one in ten seconds, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._stage = ""
        self._next = 0.0

    def at(self, place: Place) -> None:
        """Writes a line if it is time."""
        if place.stage != self._stage or time.perf_counter() >= self._next:
            self._stage, self._next = place.stage, time.perf_counter() + PLAIN_EVERY_SECONDS
            print(place, file=self._stream, flush=True)

    def block(self, event: Event) -> None:
        """Nothing happens."""

    def end(self) -> None:
        """Nothing happens."""


class TerminalProgress:
    """One line that is rewritten with every run and block."""

    def __init__(self, stream: TextIO) -> None:
        self._status = Console(file=stream).status("loading")
        self._status.start()
        self._place = ""

    def at(self, place: Place) -> None:
        """Shows the run."""
        self._place = str(place)
        self._status.update(self._place)

    def block(self, event: Event) -> None:
        """Shows the block that has run."""
        if event.kind == "run":
            self._status.update(f"{self._place}: {event.component} block {event.block}")

    def end(self) -> None:
        """Takes the line away."""
        self._status.stop()


def progress_on(stream: TextIO) -> Progress:
    """Live if the stream is a terminal, plain lines if not."""
    return TerminalProgress(stream) if stream.isatty() else PlainProgress(stream)
