"""Waiting for what other threads and processes do, however busy the machine is."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)
