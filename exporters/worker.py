"""Conversion in a process of its own: its memory goes back, and its crash is one block's error, not the tool's."""

from __future__ import annotations

import io
import multiprocessing
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch.export import ExportedProgram

from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.stopwatch import peak_rss_bytes
from tm_export.exporters.targets.base import Signature, Target, find_target


@dataclass(frozen=True)
class Emission:
    """An artifact that a worker is writing."""

    target: str
    artifact: Path
    saved: Path
    pool: ProcessPoolExecutor
    job: Future[int]

    def wait(self) -> int:
        """Wait until it is written; returns the worker's peak resident set in bytes.

        Raises `ConversionRefused` as the target does, and when the converter itself crashes.
        """
        try:
            return self.job.result()
        except BrokenProcessPool as error:
            raise ConversionRefused(
                f"the converter for {self.target} crashed on {self.artifact.name} (killed, or out of memory): "
                "free memory, or try another --merge-lowering"
            ) from error
        finally:
            self.pool.shutdown()
            self.saved.unlink(missing_ok=True)


def start_emission(
    program: ExportedProgram, signature: Signature, artifact: Path, target: Target, options: ExportOptions
) -> Emission:
    """Start to emit the program to `artifact`, in a process of its own."""
    # Forking a process that has run PyTorch can hang in its thread pool; a server that has not is forked instead.
    context = multiprocessing.get_context("spawn" if sys.platform == "darwin" else "forkserver")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(["tm_export.exporters.worker_setup"])
    artifact.parent.mkdir(parents=True, exist_ok=True)
    saved = artifact.with_name(f".{artifact.name}.pt2")
    buffer = io.BytesIO()  # writing to a full disk itself, torch would abort the process
    torch.export.save(program, buffer)
    saved.write_bytes(buffer.getbuffer())
    pool = ProcessPoolExecutor(1, mp_context=context, initializer=_leave_interrupts_to_the_tool)
    with _hidden_main():
        job = pool.submit(_emit, target.name, saved, signature, artifact, options)
    return Emission(target.name, artifact, saved, pool, job)


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Start the worker without the user's script: multiprocessing would run it again there, export and all."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _leave_interrupts_to_the_tool() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _emit(target: str, program: Path, signature: Signature, artifact: Path, options: ExportOptions) -> int:
    find_target(target).emit(torch.export.load(program), signature, artifact, options)
    return peak_rss_bytes()
