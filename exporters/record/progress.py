"""How an export tells what it is doing: live on a terminal, in plain lines elsewhere, or not at all."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, Protocol, TextIO, TypeVar

from rich.console import Console
from rich.status import Status

T = TypeVar("T")

COUNT_EVERY_SECONDS: Final = 10.0
"""How often a log is told how far a loop is."""


class Progress(Protocol):
    """What a compilation reports to."""

    def stage(self, component: str, variant: str, name: str) -> AbstractContextManager[None]:
        """Enter around one stage (`capture`, `rewrite`, `emit`, `verify`) of one variant."""
        ...

    def say(self, text: str) -> None:
        """Tell the user one thing."""
        ...

    def count(self, what: str, done: int, total: int, seconds: float) -> None:
        """Tell how far a long loop is, after so many seconds of it."""
        ...


class SilentProgress:
    """Tells nothing: for `--json` and for use in Python."""

    def stage(self, component: str, variant: str, name: str) -> AbstractContextManager[None]:
        """Nothing happens."""
        return nullcontext()

    def say(self, text: str) -> None:
        """Nothing happens."""

    def count(self, what: str, done: int, total: int, seconds: float) -> None:
        """Nothing happens."""


class PlainProgress:
    """One line for each stage that is done, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._next_count = 0.0

    @contextmanager
    def stage(self, component: str, variant: str, name: str) -> Iterator[None]:
        """Writes a line with the time that it took at the end; none if the stage fails."""
        start = time.perf_counter()
        yield
        self.say(_line(component, variant, name, time.perf_counter() - start))

    def say(self, text: str) -> None:
        """Writes the text as a line."""
        print(text, file=self._stream, flush=True)

    def count(self, what: str, done: int, total: int, seconds: float) -> None:
        """Writes a line, but not more than one in ten seconds."""
        if time.perf_counter() >= self._next_count and done < total:
            self._next_count = time.perf_counter() + COUNT_EVERY_SECONDS
            self.say(_count(what, done, total, seconds))


class TerminalProgress:
    """A spinner for the stage that runs, above it a line for each that is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None

    @contextmanager
    def stage(self, component: str, variant: str, name: str) -> Iterator[None]:
        """Shows the spinner inside, and a line with the time that it took at the end."""
        start = time.perf_counter()
        with self._console.status(f"{component} {variant}: {name}") as self._status:
            yield
        self.say(_line(component, variant, name, time.perf_counter() - start))

    def say(self, text: str) -> None:
        """Writes the text as a line."""
        self._console.print(text, markup=False, highlight=False)

    def count(self, what: str, done: int, total: int, seconds: float) -> None:
        """Shows it beside the spinner."""
        if self._status is not None:
            self._status.update(_count(what, done, total, seconds))


def progress_on(stream: TextIO) -> Progress:
    """Live if the stream is a terminal, plain lines if not."""
    if stream.isatty():
        return TerminalProgress(Console(file=stream))
    return PlainProgress(stream)


def counted(items: Sequence[T], what: str, report: Progress) -> Iterator[T]:
    """The items one after another, telling after each how many there are still, and how long that may take."""
    start = time.perf_counter()
    for done, item in enumerate(items, start=1):
        yield item
        report.count(what, done, len(items), time.perf_counter() - start)


def _count(what: str, done: int, total: int, seconds: float) -> str:
    left = round(seconds / done * (total - done))
    return f"{what}: {done} of {total}, {left // 60}:{left % 60:02d} left"


def _line(component: str, variant: str, name: str, seconds: float) -> str:
    return f"{component} {variant}: {name} {seconds:.1f} s"
