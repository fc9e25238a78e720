"""Runs a function in a process of its own, so that one measurement's memory is not another's."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import ParamSpec, TypeVar

from tm_export.runtime.engines.base import EngineError

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def isolated(function: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
    """What the function returns or raises, run in a fresh process; it, its arguments and its result are pickled.

    Raises:
        EngineError: the process died without an answer, as when an engine crashes or the OS ends it for its memory.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=_prepare) as pool:
        try:
            return pool.submit(function, *args, **kwargs).result()
        except BrokenProcessPool:
            raise EngineError(
                "the measuring process died: the engine crashed, or the OS ended it for its memory; "
                "measure one variant at a time (--component, --variant), or with a smaller --memory-budget"
            ) from None


def _prepare() -> None:
    """Keeps libraries' warnings from the user, and ends with the process that asked."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    threading.Thread(target=_end_with_parent, name="parent watch", daemon=True).start()


def _end_with_parent() -> None:
    """Nobody waits for the answer of a process whose parent was killed."""
    parent = parent_process()
    assert parent is not None, "this runs in the process that was made"
    wait([parent.sentinel])
    os._exit(1)
