"""The versions of what an artifact's bytes depend on."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

_LIBRARIES: Final = {
    "coreml": ("coremltools",),
    "onnx": ("onnx", "onnxruntime", "onnxscript", "onnxslim"),
    "executorch": ("executorch",),
}


def tool_versions(target: str) -> dict[str, str]:
    """The versions of this tool, of PyTorch and of the target's libraries."""
    return {name: version(name) for name in ("tm-export", "torch", *_LIBRARIES.get(target, ()))}
