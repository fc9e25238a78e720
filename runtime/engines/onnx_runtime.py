"""Runs ONNX blocks with ONNX Runtime on the CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from tm_export.runtime.engines.base import Array, EngineError, Session, require_artifact
from tm_export.runtime.manifest import Variant


@dataclass(frozen=True)
class OnnxRuntimeEngine:
    """ONNX Runtime's CPU provider; `threads` work inside one operator (default: all cores)."""

    threads: int | None = None
    name = "onnxruntime"
    version = onnxruntime.__version__

    def open(self, artifact: Path, variant: Variant) -> Session:
        """Loads an `.onnx` file (its weights beside it); raises EngineError if ONNX Runtime refuses it."""
        require_artifact(artifact)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads or os.cpu_count() or 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(str(artifact), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no base class but this
            raise EngineError(f"ONNX Runtime {self.version} refuses {artifact}: {error}") from error
        return _OnnxRuntimeSession(variant, session)


class _OnnxRuntimeSession(Session):
    def __init__(self, variant: Variant, session: onnxruntime.InferenceSession) -> None:
        super().__init__(variant)
        self._session = session

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        names = [spec.name for spec in self.variant.outputs]
        try:
            return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))
        except Exception as error:
            raise EngineError(f"ONNX Runtime fails in {self.variant.artifact}: {error}") from error

    def _release(self) -> None:
        del self._session
