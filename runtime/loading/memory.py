"""Watches the memory of this process: a thread that samples it, and the exact peak where the OS keeps one."""

from __future__ import annotations

import resource
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_STATM: Final = Path("/proc/self/statm")
_STATUS: Final = Path("/proc/self/status")
_CLEAR_REFS: Final = Path("/proc/self/clear_refs")
_RESET_PEAK: Final = "5"  # proc(5): resets the peak of the resident set, VmHWM


@dataclass(frozen=True)
class MemorySample:
    """The memory of the process at one time; the two parts are None where the OS does not tell them apart."""

    time_ns: int
    rss_bytes: int
    anonymous_bytes: int | None
    file_backed_bytes: int | None


def sample_memory() -> MemorySample:
    """The memory of this process now.

    Linux: /proc/self/statm, whose `shared` counts resident pages of files and of shared memory; the rest is anonymous.
    Elsewhere the resident set is the largest so far (getrusage), and its parts are not known.
    """
    now = time.perf_counter_ns()
    if _STATM.exists():
        resident, shared = (int(pages) * resource.getpagesize() for pages in _STATM.read_text().split()[1:3])
        return MemorySample(now, resident, resident - shared, shared)
    return MemorySample(now, _highest_rss_of_process(), None, None)


class MemorySampler:
    """Samples the memory of this process until it is stopped; use it as a context manager.

    Peaks that are shorter than the interval are not in the samples, but on Linux they are in `peak_rss_bytes`.
    """

    def __init__(self, interval_s: float = 0.005) -> None:
        self._interval_s = interval_s
        self._samples: list[MemorySample] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory sampler", daemon=True)
        self._peak_was_reset = False

    @property
    def samples(self) -> tuple[MemorySample, ...]:
        """What has been sampled so far, in the order of time; the first is from before `__enter__` returned."""
        return tuple(self._samples)

    def peak_rss_bytes(self) -> int:
        """The largest resident set since `__enter__`."""
        sampled = max(sample.rss_bytes for sample in (*self._samples, sample_memory()))
        return max(sampled, _kernel_peak()) if self._peak_was_reset else sampled

    def __enter__(self) -> Self:
        self._peak_was_reset = _reset_kernel_peak()
        self._samples.append(sample_memory())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._samples.append(sample_memory())

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._samples.append(sample_memory())


def _reset_kernel_peak() -> bool:
    """Lets the kernel's peak begin anew; False where that cannot be done."""
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _kernel_peak() -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0  # a kernel that keeps none


def _highest_rss_of_process() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
