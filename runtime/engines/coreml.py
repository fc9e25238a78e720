"""Runs Core ML blocks with Core ML itself: macOS only."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tm_export.runtime.coremltools_alone import coremltools
from tm_export.runtime.engines.base import (
    Array,
    EngineError,
    Engines,
    EngineUnavailable,
    Session,
    bytes_of,
    require_artifact,
)
from tm_export.runtime.engines.coreml_reference import CoreMLReferenceEngine
from tm_export.runtime.engines.footprint import Footprint
from tm_export.runtime.manifest import Block, Variant


@dataclass(frozen=True)
class CoreMLEngine:
    """Core ML's own predict, through coremltools, on the compute units that Core ML chooses."""

    name = "coreml"
    version = coremltools.__version__
    loads_while_running = True

    def footprint(self, block: Block, variant: Variant) -> Footprint:
        """The stored weights and the intermediate tensors. Not measured: what Core ML takes is up to the device."""
        return Footprint(block.weight_bytes, 0, variant.activation_bytes + bytes_of(variant.outputs))

    def open(self, artifact: Path, variant: Variant) -> Session:
        """Compiles and loads an `.mlpackage`; raises EngineUnavailable except on macOS."""
        if platform.system() != "Darwin":
            raise EngineUnavailable("Core ML runs on macOS only; here use the engine coreml-reference")
        require_artifact(artifact)
        try:
            model = _load(artifact, variant.function)
        except Exception as error:  # coremltools raises bare RuntimeError, Exception and NSError text
            raise EngineError(f"Core ML refuses {artifact}: {error}") from error
        return _CoreMLSession(variant, model)


def _load(artifact: Path, function: str) -> Any:
    spec = coremltools.utils.load_spec(str(artifact))
    # A package with a single function must be loaded without naming it.
    is_multifunction = len(spec.description.functions) > 0
    return coremltools.models.MLModel(str(artifact), function_name=function if is_multifunction else None)


class _CoreMLSession(Session):
    def __init__(self, variant: Variant, model: Any) -> None:
        super().__init__(variant)
        self._model = model

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        try:
            results = self._model.predict(dict(inputs))
        except Exception as error:
            raise EngineError(f"Core ML fails in {self.variant.artifact}: {error}") from error
        return {spec.name: np.asarray(results[spec.name]).reshape(spec.shape) for spec in self.variant.outputs}

    def _release(self) -> None:
        del self._model


def engines() -> Engines:
    """Core ML where it is, and the evaluator of its programs everywhere."""
    if platform.system() == "Darwin":
        return Engines((CoreMLEngine(), CoreMLReferenceEngine()))
    return Engines((CoreMLReferenceEngine(),))
