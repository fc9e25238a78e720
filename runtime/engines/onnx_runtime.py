"""Runs ONNX blocks with ONNX Runtime on the CPU."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import onnxruntime

from tm_export.runtime.engines.base import Array, EngineError, Engines, Session, require_artifact
from tm_export.runtime.engines.footprint import Footprint
from tm_export.runtime.engines.onnx_parts import take_apart
from tm_export.runtime.heap import keep_no_large_blocks
from tm_export.runtime.manifest import Block, Variant

_SESSION_BYTES: Final = 8 * 2**20
"""A session's graph and buffers beside weights and intermediate tensors, rounded up."""

_KEPT_PROGRAMS: Final = 4
"""Blocks of several programs may alternate, as T5's do, or variants."""

_LAYOUT_BYTES: Final = 80 * 2**20
"""What is lost between intermediate tensors, which ONNX Runtime lays into one piece of memory from the second run on.

Measured for the networks of On-device Sora: from none to 74 MB beyond `activation_bytes`, but never twice as much.
"""

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

    Mapped weights are inputs of a session, and blocks that are the same program share one: a session's first run takes
    longer than its later ones, by a third for a block of STDiT3 at 2 × 2800 tokens. The sessions of a few programs are
    kept, also when all blocks are closed; without weights they are small.
    """

    threads: int | None = None
    weights: Literal["mapped", "packed"] = "mapped"
    _programs: dict[bytes, onnxruntime.InferenceSession] = field(default_factory=dict, repr=False, compare=False)
    name = "onnxruntime"
    version = onnxruntime.__version__
    loads_while_running = True

    def footprint(self, block: Block, variant: Variant) -> Footprint:
        """Mapped: the weights as stored, and intermediate tensors during a run; packed: a bound.

        Measured, mapped: 100.7 MB of weights take 101 MB after runs, be they of 32 bit or of 16, as pages of the file.
        While a 16-bit weight is used, its 32-bit copy comes on top, which `activation_bytes` counts.
        """
        copy = 1 if self.weights == "mapped" else _LARGEST_COPY
        running = variant.activation_bytes + min(variant.activation_bytes, _LAYOUT_BYTES)
        return Footprint(block.weight_bytes * copy + _SESSION_BYTES, 0, running)

    def open(self, artifact: Path, variant: Variant) -> Session:
        """Loads an `.onnx` file (its weights beside it); raises EngineError if ONNX Runtime refuses it."""
        require_artifact(artifact)
        try:
            if self.weights == "mapped":
                keep_no_large_blocks()
                parts = take_apart(artifact)
                return _OnnxRuntimeSession(variant, self._program(parts.graph), parts.weights)
            return _OnnxRuntimeSession(variant, _session(str(artifact), self._packed()), {})
        except EngineError:
            raise
        except Exception as error:  # the errors of ONNX and its runtime share no base class but this
            raise EngineError(f"ONNX Runtime {self.version} refuses {artifact}: {error}") from error

    def _program(self, graph: bytes) -> onnxruntime.InferenceSession:
        """A session for the graph: the one that was made for another block, if it is the same program."""
        key = hashlib.sha256(graph).digest()
        session = self._programs.pop(key, None) or _session(graph, self._mapped())
        self._programs[key] = session  # at the end, as the one that was used last
        if len(self._programs) > _KEPT_PROGRAMS:
            del self._programs[next(iter(self._programs))]
        return session

    def _packed(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads or os.cpu_count() or 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return options

    def _mapped(self) -> onnxruntime.SessionOptions:
        options = self._packed()
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.enable_cpu_mem_arena = False
        # Otherwise all Casts of weights come first: 12 of them held 300 MB at once, in this order 120 MB.
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
        # Operators that are fused come last in that order, and the Casts in front of them early again.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # A tensor that is planned to be used again is held until then: 780 MB in a block that needs 240.
        options.enable_mem_reuse = False
        return options


@dataclass(frozen=True)
class OnnxRuntimeDefaultEngine(OnnxRuntimeEngine):
    """ONNX Runtime as an app opens a file that it knows nothing of: all graph optimisations, weights packed.

    Optimisations fuse operators, and have broken programs that are right without them (onnxruntime#25855: a layer
    norm whose gain is broadcast), so that what `OnnxRuntimeEngine` computes does not prove what an app will see.
    """

    weights: Literal["mapped", "packed"] = "packed"
    name = "onnxruntime-default"


def _session(model: str | bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class _OnnxRuntimeSession(Session):
    def __init__(self, variant: Variant, session: onnxruntime.InferenceSession, weights: Mapping[str, Array]) -> None:
        super().__init__(variant)
        self._session, self._weights = session, dict(weights)

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        names = [spec.name for spec in self.variant.outputs]
        try:
            return dict(zip(names, self._session.run(names, {**self._weights, **inputs}), strict=True))
        except Exception as error:
            raise EngineError(f"ONNX Runtime fails in {self.variant.artifact}: {error}") from error

    def _release(self) -> None:
        del self._session, self._weights


def engines() -> Engines:
    """ONNX Runtime, as a streamed block is opened and as an app opens a file by default."""
    return Engines((OnnxRuntimeEngine(),), as_apps_open=(OnnxRuntimeDefaultEngine(),))
