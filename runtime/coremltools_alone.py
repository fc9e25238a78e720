"""coremltools, without the libraries that it would import to convert models of other kinds.

Whatever needs coremltools imports this first. Measured, with PyTorch already there: imported in 1.1 s instead of
5.0, the process then holding 309 MB instead of 501.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_NOT_NEEDED: Final = ("executorch", "sklearn", "torchao", "transformers")
"""It works without them, by its own design. Of ExecuTorch it would use what captures a program, which is done here."""


@contextmanager
def _hidden(names: tuple[str, ...]) -> Iterator[None]:
    """Let imports of these modules fail, of which none has been imported before, inside."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # by which Python knows that it is not to be found
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _hidden(_NOT_NEEDED):
    import coremltools

__all__ = ["coremltools"]
