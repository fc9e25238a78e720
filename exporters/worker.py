"""Conversion in a process of its own: its memory goes back, and its crash is one block's error, not the tool's."""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch
from torch.export import ExportedProgram

from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.stopwatch import peak_rss_bytes
from tm_export.exporters.targets.base import Signature, Target, find_target


def emit_in_worker(
    program: ExportedProgram, signature: Signature, artifact: Path, target: Target, options: ExportOptions
) -> int:
    """Emit the program to `artifact`; returns the worker's peak resident set in bytes.

    Raises `ConversionRefused` as the target does, and when the converter itself crashes.
    """
    # Forking a process that has run PyTorch can hang in its thread pool; a server that has not is forked instead.
    context = multiprocessing.get_context("spawn" if sys.platform == "darwin" else "forkserver")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(["tm_export.exporters.worker_setup"])
    artifact.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=artifact.parent) as folder,
        ProcessPoolExecutor(max_workers=1, mp_context=context) as pool,
    ):
        saved = Path(folder) / "program.pt2"
        torch.export.save(program, saved)
        try:
            with _hidden_main():
                job = pool.submit(_emit, target.name, saved, signature, artifact, options)
            return job.result()
        except BrokenProcessPool as error:
            raise ConversionRefused(
                f"the converter for {target.name} crashed on {artifact.name} (killed, or out of memory): "
                "free memory, or try another --merge-lowering"
            ) from error


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Start the worker without the user's script: multiprocessing would run it again there, export and all."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _emit(target: str, program: Path, signature: Signature, artifact: Path, options: ExportOptions) -> int:
    find_target(target).emit(torch.export.load(program), signature, artifact, options)
    return peak_rss_bytes()
