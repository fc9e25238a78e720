"""How an export tells what it is doing: live on a terminal, in plain lines elsewhere, or not at all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, TextIO

from rich.console import Console


class Progress(Protocol):
    """What a compilation reports to."""

    def stage(self, component: str, variant: str, name: str) -> AbstractContextManager[None]:
        """Enter around one stage (`capture`, `rewrite`, `emit`, `verify`) of one variant."""
        ...

    def say(self, text: str) -> None:
        """Tell the user one thing."""
        ...


class SilentProgress:
    """Tells nothing: for `--json` and for use in Python."""

    def stage(self, component: str, variant: str, name: str) -> AbstractContextManager[None]:
        """Nothing happens."""
        return nullcontext()

    def say(self, text: str) -> None:
        """Nothing happens."""


class PlainProgress:
    """One line for each stage that is done, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @contextmanager
    def stage(self, component: str, variant: str, name: str) -> Iterator[None]:
        """Writes a line with the time that it took at the end; none if the stage fails."""
        start = time.perf_counter()
        yield
        self.say(_line(component, variant, name, time.perf_counter() - start))

    def say(self, text: str) -> None:
        """Writes the text as a line."""
        print(text, file=self._stream, flush=True)


class TerminalProgress:
    """A spinner for the stage that runs, above it a line for each that is done."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def stage(self, component: str, variant: str, name: str) -> Iterator[None]:
        """Shows the spinner inside, and a line with the time that it took at the end."""
        start = time.perf_counter()
        with self._console.status(f"{component} {variant}: {name}"):
            yield
        self.say(_line(component, variant, name, time.perf_counter() - start))

    def say(self, text: str) -> None:
        """Writes the text as a line."""
        self._console.print(text, markup=False, highlight=False)


def progress_on(stream: TextIO) -> Progress:
    """Live if the stream is a terminal, plain lines if not."""
    if stream.isatty():
        return TerminalProgress(Console(file=stream))
    return PlainProgress(stream)


def _line(component: str, variant: str, name: str, seconds: float) -> str:
    return f"{component} {variant}: {name} {seconds:.1f} s"
