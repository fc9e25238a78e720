"""The loader's two threads in simulated time: what each waits for is the loader's own, how long it takes is stated.

Wall time on a machine that does other work besides says little, so no test asserts it. Here the caller's thread and the
loading thread have a clock each, sleeping moves it, and whoever waits for the other takes the later of both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tm_export.runtime.engines.base import Session
from tm_export.runtime.loading import loader


class SimulatedTime:
    """The clock of whichever thread is being followed."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def perf_counter_ns(self) -> int:
        return round(self.now * 1e9)


class SimulatedLoadingThread:
    """An executor with one worker: work starts when it was submitted, or when what came before it has ended.

    It is followed no sooner than its result is asked for, so work that is never awaited can be cancelled.
    """

    def __init__(self, time: SimulatedTime) -> None:
        self._time = time
        self._free_at = 0.0
        self._waiting: deque[SimulatedFuture] = deque()

    def submit(self, work: Callable[..., Session], *arguments: object) -> SimulatedFuture:
        future = SimulatedFuture(self, lambda: work(*arguments), self._time.now)
        self._waiting.append(future)
        return future

    def shutdown(self) -> None:
        assert not self._waiting

    def wait_for(self, future: SimulatedFuture) -> None:
        while future in self._waiting:
            self._follow(self._waiting.popleft())
        self._time.now = max(self._time.now, future.ended_at)

    def cancel(self, future: SimulatedFuture) -> bool:
        while future in self._waiting and self._waiting[0].starts_at(self._free_at) <= self._time.now:
            self._follow(self._waiting.popleft())
        if future not in self._waiting:
            return False
        self._waiting.remove(future)
        return True

    def _follow(self, future: SimulatedFuture) -> None:
        callers_now, self._time.now = self._time.now, future.starts_at(self._free_at)
        future.work_off()
        self._free_at = future.ended_at = self._time.now
        self._time.now = callers_now


@dataclass(eq=False)
class SimulatedFuture:
    thread: SimulatedLoadingThread
    work: Callable[[], Session]
    submitted_at: float
    ended_at: float = 0.0

    def starts_at(self, thread_is_free_at: float) -> float:
        return max(self.submitted_at, thread_is_free_at)

    def work_off(self) -> None:
        self._session = self.work()

    def result(self) -> Session:
        self.thread.wait_for(self)
        return self._session

    def exception(self) -> None:
        self.thread.wait_for(self)

    def cancel(self) -> bool:
        return self.thread.cancel(self)


def simulate_loaders(monkeypatch: pytest.MonkeyPatch) -> SimulatedTime:
    """From here to the test's end every loader lives in simulated time."""
    time = SimulatedTime()
    monkeypatch.setattr(loader, "time", time)
    monkeypatch.setattr(loader, "ThreadPoolExecutor", lambda **options: SimulatedLoadingThread(time))
    return time
