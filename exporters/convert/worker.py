"""Conversion in a process of its own: its memory goes back, and its crash is one block's error, not the tool's."""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from types import ModuleType
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.export import ExportedProgram

from tm_export.exporters.errors import ConversionRefused, UsageError
from tm_export.exporters.graph.tensors import tensors_of, with_tensors
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.record.collecting import collect_seldom
from tm_export.exporters.record.stopwatch import peak_rss_bytes
from tm_export.exporters.targets.base import Function, Signature, Target, find_target
from tm_export.exporters.targets.culprit import emit_or_name

_WEIGHTS: Final = "weights.safetensors"
_SET_UP: Final = "tm_export.exporters.convert.worker_setup"


@dataclass(frozen=True)
class _SavedFunction:
    """A function on disk: its program without weights, and the name of each weight in the file of weights."""

    program: Path
    signature: Signature
    weights: Mapping[str, str]


@dataclass(frozen=True)
class SavedBlock:
    """A block's functions in a folder of its own, from which a worker takes them: here they can be let go of."""

    functions: Mapping[str, _SavedFunction]
    scratch: Path


@dataclass(frozen=True)
class Emission:
    """A block that a worker is writing to a folder of its own, inside `scratch`."""

    target: str
    stem: str
    scratch: Path
    pool: ProcessPoolExecutor
    job: Future[int]

    @property
    def folder(self) -> Path:
        """Where the block's artifacts are, once `wait` has returned."""
        return self.scratch / "made"

    def wait(self) -> int:
        """Wait until it is written; returns the worker's peak resident set in bytes.

        Raises `ConversionRefused` as the target does, and when the converter itself crashes.
        """
        try:
            return self.job.result()
        except BrokenProcessPool as error:
            raise ConversionRefused(
                f"the converter for {self.target} crashed on block {self.stem} (killed, or out of memory): "
                "free memory, or try another --merge-lowering"
            ) from error
        finally:
            self.pool.shutdown()

    def discard(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self.scratch, ignore_errors=True)


def warm_up(targets: Iterable[Target]) -> None:
    """Start the server that workers are forked from: the converters' slow imports go on beside what comes first.

    It is warm for these targets until it ends; others convert as well, and slower.

    Raises `UsageError` if the folder for temporary files has too long a path for a socket in it.
    """
    context = _context()
    if context.get_start_method() == "forkserver":
        warm = dict.fromkeys(module for target in targets for module in target.warm)
        context.set_forkserver_preload([_SET_UP, *warm])
        try:
            ensure_running()
        except OSError as error:
            if "path too long" not in str(error):
                raise
            raise UsageError(
                f"the path of the folder for temporary files, {tempfile.gettempdir()}, is too long for a socket: "
                "set TMPDIR to a shorter one"
            ) from error


def save_block(functions: Mapping[str, Function], folder: Path) -> SavedBlock:
    """Write the functions somewhere inside `folder`, and beside them once each tensor that any of them holds."""
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="converting-", dir=folder))
    tensors: dict[str, Tensor] = {}
    names: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}
    saved = {}
    for i, (variant, function) in enumerate(functions.items()):
        weights = {}
        for name, tensor in tensors_of(function.program).items():
            own = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else (i, tensor.shape, ())
            stored = names.setdefault(own, str(len(names)))
            tensors[stored] = tensor.detach().contiguous()
            weights[name] = stored
        shapes = {name: tensor.detach().to("meta") for name, tensor in tensors_of(function.program).items()}
        buffer = io.BytesIO()  # writing to a full disk itself, torch would abort the process
        torch.export.save(with_tensors(function.program, shapes), buffer)
        path = scratch / f"{i}.pt2"
        path.write_bytes(buffer.getbuffer())
        saved[variant] = _SavedFunction(path, function.signature, weights)
    save_file(_with_own_memory(tensors), scratch / _WEIGHTS)
    return SavedBlock(saved, scratch)


def start_emission(saved: SavedBlock, stem: str, target: Target, options: ExportOptions) -> Emission:
    """Start to emit a block's functions, in a process of its own."""
    warm_up([target])
    pool = ProcessPoolExecutor(1, mp_context=_context(), initializer=_set_up)
    with _hidden_main():
        job = pool.submit(_emit, target.name, saved, stem, options)
    return Emission(target.name, stem, saved.scratch, pool, job)


def _context() -> BaseContext:
    """Forking a process that has run PyTorch can hang in its thread pool; a server that has not is forked instead."""
    return multiprocessing.get_context("spawn" if sys.platform == "darwin" else "forkserver")


def _with_own_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of those that share memory with others: the file format has no views."""
    seen: set[int] = set()
    own = {}
    for name, tensor in tensors.items():
        pointer = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    return own


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Start the worker without the user's script: multiprocessing would run it again there, export and all."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _set_up() -> None:
    """Leave interrupts to the tool, and end when it does; what was imported before is no garbage to look through."""
    gc.freeze()
    collect_seldom()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_tool, daemon=True).start()


def _end_with_the_tool() -> None:
    """Wait for the tool's end; the server that forked this worker is no sign of it, since it ends after its workers."""
    tool = multiprocessing.parent_process()
    assert tool is not None
    tool.join()
    os._exit(1)


def _emit(target: str, saved: SavedBlock, stem: str, options: ExportOptions) -> int:
    made = saved.scratch / "made"
    made.mkdir()
    with tempfile.TemporaryDirectory(dir=saved.scratch) as temporary:
        tempfile.tempdir = temporary  # coremltools removes its packages `atexit`, which a forked worker never runs
        emit_or_name(find_target(target), _functions(saved), made, stem, options)
    for one in saved.functions.values():
        one.program.unlink()
    (saved.scratch / _WEIGHTS).unlink()
    return peak_rss_bytes()


def _functions(saved: SavedBlock) -> dict[str, Function]:
    tensors = load_file(saved.scratch / _WEIGHTS)
    return {variant: Function(_load(one, tensors), one.signature) for variant, one in saved.functions.items()}


def _load(saved: _SavedFunction, tensors: Mapping[str, Tensor]) -> ExportedProgram:
    program = torch.export.load(saved.program)
    return with_tensors(program, {name: tensors[stored] for name, stored in saved.weights.items()})
