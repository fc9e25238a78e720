"""Where in the user's own code a node of the graph, an error or a call comes from.

The line that counts is the one that does it: the innermost frame outside PyTorch, installed libraries and this
package. If a library does it all by itself, its innermost frame stands in.
"""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import FrameSummary, StackSummary
from unittest import mock

import torch
from torch import fx
from torch.fx.proxy import TracerBase

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>.*)\n\s*(?P<code>.*)')
_TORCH = str(Path(torch.__file__).parent)
_INSTALLED = ("site-packages", "dist-packages", sysconfig.get_paths()["stdlib"])
_OURS = (str(Path(__file__).resolve().parent.parent), "tm_export/exporters")
_EXPORT = (f"{_TORCH}/export/", f"{_TORCH}/_export/")


def source_line(node: fx.Node) -> str:
    """`file.py:12: code` of the frame that made the node, or "" where capture kept none."""
    return source_of_trace(str(node.meta.get("stack_trace") or ""))


def source_of_trace(trace: str) -> str:
    """`file.py:12: code` of the frame that counts in the text of a stack trace, or ""."""
    frames = [
        FrameSummary(found["file"], int(found["line"]), found["function"], line=found["code"])
        for found in _FRAME.finditer(trace)
    ]
    return source_of_frames(frames)


def source_of_frames(frames: Iterable[FrameSummary]) -> str:
    """`file.py:12: code` of the frame that counts, or ""."""
    outside = [frame for frame in frames if not _is_torch_or_ours(frame)]
    users = [frame for frame in outside if not any(place in frame.filename for place in _INSTALLED)]
    chosen = users or outside
    if not chosen:
        return ""
    frame = chosen[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}: {(frame.line or '').strip()}"


def source_of_error(error: BaseException) -> str:
    """`file.py:12: code` of the line that raised, or ""."""
    return source_of_frames(below_export(traceback.extract_tb(error.__traceback__)))


def source_of_call() -> str:
    """`file.py:12: code` of the line that is running, or ""."""
    return source_of_frames(below_export(traceback.extract_stack()))


def below_export(stack: list[FrameSummary]) -> list[FrameSummary]:
    """The frames inside the module that is captured, without those that lead to it."""
    last = max((i for i, frame in enumerate(stack) if _leads_to_module(frame)), default=-1)
    return stack[last + 1 :]


@contextmanager
def whole_traces() -> Iterator[None]:
    """Have capture keep every frame outside PyTorch for a node: by itself it keeps those that are called `forward`."""

    def kept(_tracer: TracerBase, stack: StackSummary) -> StackSummary:
        return StackSummary.from_list([frame for frame in below_export(list(stack)) if not _is_torch_or_ours(frame)])

    with mock.patch.object(TracerBase, "_filter_traceback_frames", kept):
        yield


def _leads_to_module(frame: FrameSummary) -> bool:
    if frame.name == "__torch_function__":  # export watches what the module calls: it stands inside as well
        return False
    return frame.filename.startswith(_EXPORT) or frame.filename.endswith("exporters/capture/capture.py")


def _is_torch_or_ours(frame: FrameSummary) -> bool:
    inside = frame.filename.startswith(_TORCH) or any(place in frame.filename for place in _OURS)
    return inside or frame.filename.startswith("<")


def line_of(place: str) -> str:
    """`file.py:18` of `file.py:18: code`."""
    return ":".join(place.split(":")[:2])
