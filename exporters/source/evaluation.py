"""Run a module as PyTorch evaluates it, and leave it as it was."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from tm_export.exporters.errors import UsageError
from tm_export.exporters.source.flat_call import UserCall

_LIBRARIES: Final = (str(Path(torch.__file__).parent), str(Path(__file__).parent.parent), "tm_export/exporters")


@contextmanager
def evaluated(module: nn.Module) -> Iterator[None]:
    """Evaluate, compiling nothing, and put back afterwards which parts were training, and what the buffers held."""
    training = [(part, part.training) for part in module.modules()]
    held = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    module.eval()
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        with torch.no_grad():
            for buffer, value in held:
                buffer.copy_(value)
        for part, was_training in training:
            part.training = was_training


def returned_by(module: nn.Module, call: UserCall) -> Any:
    """What the module returns for the example inputs.

    Raises `UsageError`, with the user's source line, if it raises.
    """
    args, kwargs = call.arguments([tensor.clone() for tensor in call.tensors])
    with torch.no_grad(), torch.random.fork_rng(devices=()), evaluated(module):
        try:
            return module(*args, **kwargs)
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            where = _line_of(error)
            raise UsageError(
                f"{type(module).__name__} does not run on its example inputs{f' at {where}' if where else ''}: "
                f"{type(error).__name__}: {first}"
            ) from error


def _line_of(error: BaseException) -> str:
    """`file.py:12: code` of the innermost line of the user's own, or else of a library's other than PyTorch."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(place in frame.filename for place in _LIBRARIES) and not frame.filename.startswith("<")
    ]
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}: {own[-1].line}" if own else ""
