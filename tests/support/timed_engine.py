"""An engine whose loads and runs take stated times and compute nothing: what the loader does is all that is seen."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tm_export.runtime.engines.base import Array, Session
from tm_export.runtime.engines.footprint import Footprint
from tm_export.runtime.manifest import Block, Variant


@dataclass
class TimedEngine:
    load_seconds: float = 0.0
    run_seconds: float = 0.0
    fails: Callable[[str], bool] = lambda artifact: False
    sleep: Callable[[float], None] = time.sleep
    opened: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    name = "timed"
    version = "1"
    loads_while_running = True

    def footprint(self, block: Block, variant: Variant) -> Footprint:
        return Footprint(block.weight_bytes, 0, 0)

    def open(self, artifact: Path, variant: Variant) -> Session:
        self.sleep(self.load_seconds)
        self.opened.append(variant.artifact)
        return _TimedSession(self, variant)


class _TimedSession(Session):
    def __init__(self, engine: TimedEngine, variant: Variant) -> None:
        super().__init__(variant)
        self._engine = engine

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if self._engine.fails(self.variant.artifact):
            raise RuntimeError("the engine has failed")
        self._engine.sleep(self._engine.run_seconds)
        return {spec.name: inputs["x"] for spec in self.variant.outputs}

    def _release(self) -> None:
        self._engine.closed.append(self.variant.artifact)
