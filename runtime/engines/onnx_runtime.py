"""Runs ONNX blocks with ONNX Runtime on the CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import onnxruntime

from tm_export.runtime.engines.base import Array, EngineError, Session, require_artifact
from tm_export.runtime.footprint import Footprint
from tm_export.runtime.loading.heap import keep_no_large_blocks
from tm_export.runtime.manifest import Block, Variant

_WIDENING_OPTIMIZERS: Final = ("ConstantFolding", "FuseFp16InitializerToFp32NodeTransformer")
"""What turns a 16-bit weight and its Cast into a 32-bit copy when a session opens."""

_SESSION_BYTES: Final = 8 * 2**20
"""A session's graph and buffers beside weights and intermediate tensors, rounded up."""

_LARGEST_COPY: Final = 3
"""Packed weights against stored ones: 1.0 for products, 2.0 for convolutions, 2.7 if 16 bit are widened."""


@dataclass(frozen=True)
class OnnxRuntimeEngine:
    """ONNX Runtime's CPU provider.

    `threads` work inside one operator (default: all cores). With `weights="mapped"` an open block holds the pages of
    its file and nothing else: the kernels read them as they are stored, a 16-bit weight is widened each time it is
    used, and memory for intermediate tensors goes back after each run. With `weights="packed"` ONNX Runtime copies
    weights into the forms that its kernels like best, and keeps its memory. Measured on 2 cores, 100 MB of 32-bit
    weights, mapped against packed: opened in 5 against 120 ms; products of 500 tokens and more equally fast, of 16
    tokens 10 against 6 ms; 3×3 convolutions 52 against 40 ms.
    """

    threads: int | None = None
    weights: Literal["mapped", "packed"] = "mapped"
    name = "onnxruntime"
    version = onnxruntime.__version__
    loads_while_running = True

    def footprint(self, block: Block, variant: Variant) -> Footprint:
        """Mapped: the weights as stored, and intermediate tensors during a run; packed: a bound.

        Measured, mapped: 100.7 MB of weights take 101 MB after runs, be they of 32 bit or of 16, as pages of the file.
        While a 16-bit weight is used, its 32-bit copy comes on top, which `activation_bytes` counts.
        """
        copy = 1 if self.weights == "mapped" else _LARGEST_COPY
        return Footprint(block.weight_bytes * copy + _SESSION_BYTES, 0, variant.activation_bytes)

    def open(self, artifact: Path, variant: Variant) -> Session:
        """Loads an `.onnx` file (its weights beside it); raises EngineError if ONNX Runtime refuses it."""
        require_artifact(artifact)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads or os.cpu_count() or 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        disabled: tuple[str, ...] = ()
        if self.weights == "mapped":
            keep_no_large_blocks()
            options.add_session_config_entry("session.disable_prepacking", "1")
            options.enable_cpu_mem_arena = False
            # Otherwise all Casts of weights come first: 12 of them held 300 MB at once, in this order 120 MB.
            options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
            # Operators that are fused come last in that order, and the Casts in front of them early again.
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            # A tensor that is planned to be used again is held until then: 780 MB in a block that needs 240.
            options.enable_mem_reuse = False
            disabled = _WIDENING_OPTIMIZERS
        try:
            session = onnxruntime.InferenceSession(
                str(artifact), options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
            )
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
