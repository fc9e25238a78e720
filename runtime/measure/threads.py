"""How many threads an engine works with."""

from __future__ import annotations

import os

from tm_export.runtime.engines import Engine


def threads_used(engine: Engine, asked: int | None) -> int | None:
    """The threads that were asked for, else what the engine takes by itself; None where it does not tell."""
    if asked is not None:
        return asked
    if engine.name == "onnxruntime":
        return os.cpu_count()  # what the engine asks of ONNX Runtime
    if engine.name == "executorch":
        from executorch.extension.pybindings import portable_lib  # heavy, and loaded by the engine already

        return int(portable_lib._threadpool_get_thread_count())
    return None
