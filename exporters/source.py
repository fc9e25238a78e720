"""Where in the user's own code a node of the graph comes from."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import fx

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>.*)\n\s*(?P<code>.*)')
_TORCH = str(Path(torch.__file__).parent)


def source_line(node: fx.Node) -> str:
    """`file.py:12: code` of the innermost frame outside PyTorch, or "" where capture kept none."""
    return source_of_trace(str(node.meta.get("stack_trace") or ""))


def source_of_trace(trace: str) -> str:
    """`file.py:12: code` of the innermost frame outside PyTorch in the text of a stack trace."""
    frames = [found for found in _FRAME.finditer(trace) if not found["file"].startswith(_TORCH)]
    if not frames:
        return ""
    frame = frames[-1]
    return f"{Path(frame['file']).name}:{frame['line']}: {frame['code'].strip()}"
