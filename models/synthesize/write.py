"""Write a synthetic checkpoint of a model, to rehearse a full-size export without a download.

It has the published keys, shapes and dtypes of all that is exported, and random values. What the published
files hold beyond that, such as the VAE's encoder, is left out.

    python -m tm_export.models.synthesize ondevice-sora --out sora --dtype float16
"""

from __future__ import annotations

import argparse
import errno
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from tm_export.models.checkpoints.tensor_source import StoredSpec, stored_bytes
from tm_export.models.checkpoints.writer import MAX_SHARD_BYTES, write_checkpoint
from tm_export.models.spec.registry import (
    BrokenModelPlugin,
    ComponentSpec,
    ModelSpec,
    UnknownModel,
    find_model,
    list_models,
)
from tm_export.models.synthesize.values import SyntheticValues

DTYPES: Final = {"float16": torch.float16, "float32": torch.float32}

USAGE: Final = 2
INTERRUPTED: Final = 130
READS_TEXT: Final = ("text_encoder", "llm")
"""Components that a tokenizer stands beside."""

NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)

Folders = Mapping[str, Mapping[str, StoredSpec]]
"""The tensors of each folder of a checkpoint."""


class CannotSynthesize(ValueError):
    """A synthetic checkpoint cannot be written; the message says what to do."""


def published_tensors(model: ModelSpec, dtype: torch.dtype | None) -> Folders:
    """Return the tensors of a model's checkpoint by folder, without making any.

    Args:
        model: a model with published components.
        dtype: of all floating-point tensors; None stands for the published one.

    Raises:
        CannotSynthesize: no component of the model has a published checkpoint.
    """
    folders: dict[str, dict[str, StoredSpec]] = {}
    for component in model.components:
        if component.published is not None:
            tensors = folders.setdefault(component.published.folder, {})
            own = _tensors(component, dtype or component.published.dtype)
            tensors.update({component.published.prefix + key: spec for key, spec in own.items()})
    if not folders:
        known = [each.name for each in list_models() if any(component.published for component in each.components)]
        raise CannotSynthesize(
            f"model {model.name!r} has no published checkpoint, it brings its own weights; "
            f"choose one that has: {', '.join(known)}"
        )
    return folders


def synthetic_texts(model: ModelSpec) -> Mapping[str, str]:
    """Return the text files of a model's checkpoint by path: a made-up tokenizer, for a model that takes prompts."""
    host = model.text_to_video or model.chart_qa
    if host is None or host.synthetic_tokenizer is None:
        return {}
    folder = next(each.published.folder for each in model.components if each.published and each.name in READS_TEXT)
    return {f"{folder}/tokenizer.json": host.synthetic_tokenizer()}


def _tensors(component: ComponentSpec, dtype: torch.dtype) -> dict[str, StoredSpec]:
    build = next(iter(component.variants.values()))
    with torch.device("meta"):
        state = build().state_dict()
    return {
        key: StoredSpec(tuple(tensor.shape), dtype if tensor.is_floating_point() else tensor.dtype)
        for key, tensor in state.items()
    }


def synthesize(
    folders: Folders,
    out: Path,
    seed: int,
    say: Callable[[str], None],
    max_shard_bytes: int = MAX_SHARD_BYTES,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write a checkpoint folder; it appears under its name when it is whole, and not before.

    Args:
        folders: from `published_tensors`.
        out: the folder, which must not exist or be empty.
        seed: of the values; see `SyntheticValues`.
        say: takes a line of progress for each file.
        max_shard_bytes: no file is larger, unless a single tensor is.
        texts: from `synthetic_texts`.

    Raises:
        CannotSynthesize: `out` is in use, it cannot be written, or its disk is too small.
    """
    out = out.resolve()
    total = sum(stored_bytes(spec) for tensors in folders.values() for spec in tensors.values())
    staging = out.with_name(f".{out.name}.partial")
    try:
        _check_free(out, total)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            _write(staging, folders, seed, Progress(staging, total, say), max_shard_bytes)
            for path, text in (texts or {}).items():
                (staging / path).write_text(text, encoding="utf-8")
            staging.replace(out)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise CannotSynthesize(
                f"the disk of {out} is full: {total:,} bytes are needed; make room, choose another disk with --out, "
                "or a narrower --dtype. What was written has been removed"
            ) from error
        raise CannotSynthesize(f"{out} cannot be written ({error}); choose another folder with --out") from error


def _check_free(out: Path, total: int) -> None:
    """Raise unless the folder can be used and its disk has the room."""
    if out.exists() and not (out.is_dir() and next(out.iterdir(), None) is None):
        raise CannotSynthesize(f"{out} exists and is not an empty folder; remove it, or choose another with --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out.parent).free
    if free < total:
        raise CannotSynthesize(
            f"the disk of {out} has {free:,} bytes free, the checkpoint takes {total:,}; "
            "make room, choose another disk with --out, or a narrower --dtype"
        )


def _write(staging: Path, folders: Folders, seed: int, progress: Progress, max_shard_bytes: int) -> None:
    values = SyntheticValues(seed)
    for name, tensors in folders.items():
        folder = staging / name
        folder.mkdir(exist_ok=True)
        write_checkpoint(folder, tensors, values.pieces, progress.wrote, max_shard_bytes)


class Progress:
    """Says after each file how far the checkpoint is and how long the rest will take."""

    def __init__(self, root: Path, total: int, say: Callable[[str], None]) -> None:
        self.root, self.total, self.say = root, total, say
        self.written = 0
        self.start = time.monotonic()

    def wrote(self, file: Path) -> None:
        """Count a file that is whole."""
        self.written += file.stat().st_size
        seconds = time.monotonic() - self.start
        left = seconds * max(self.total - self.written, 0) / self.written
        self.say(
            f"{file.relative_to(self.root)}: {self.written / 1e9:.2f} of {self.total / 1e9:.2f} GB "
            f"in {seconds:.0f} s, {left:.0f} s left"
        )


@dataclass(frozen=True)
class Request:
    """A parsed command line."""

    model: str
    out: Path
    dtype: torch.dtype | None
    seed: int


def parse(argv: Sequence[str]) -> Request:
    """Parse the command line; on a mistake, print it and exit with code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m tm_export.models.synthesize",
        description="Write a synthetic checkpoint with a model's published keys, shapes and dtypes, and random "
        "values: to rehearse a full-size export without a download. What the networks make of it means nothing.",
        epilog="example: python -m tm_export.models.synthesize ondevice-sora --out sora --dtype float16 (12.4 GB), "
        "then tm-export -m ondevice-sora --checkpoint sora --target onnx",
    )
    parser.add_argument("model", help="a model with a published checkpoint: ondevice-sora, tinychart-3b, …")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder that is empty or not there")
    parser.add_argument("--dtype", choices=DTYPES, help="of all tensors; the published one unless given")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other values (default 0)")
    arguments = parser.parse_args(argv)
    return Request(arguments.model, arguments.out, DTYPES.get(arguments.dtype), arguments.seed)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 good, 2 usage or no room, 130 interrupted."""
    request = parse(sys.argv[1:] if argv is None else argv)
    try:
        model = find_model(request.model)
        folders = published_tensors(model, request.dtype)
        texts = synthetic_texts(model)
        synthesize(folders, request.out, request.seed, say=lambda line: print(line, flush=True), texts=texts)
    except (CannotSynthesize, UnknownModel, BrokenModelPlugin) as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("interrupted; what was written has been removed", file=sys.stderr)
        return INTERRUPTED
    print(f"{request.out}: done")
    return 0
