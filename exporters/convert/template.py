"""Write a block by weights only: into a copy of the artifact of another block that is the same program.

An artifact is converted once, over weights that are random and so found nowhere else by chance. Where their bytes
lie in it, other blocks' weights go. That every one is found is required here; that nothing else in the artifact
depends on them is proved by running a block that was written so.
"""

from __future__ import annotations

import hashlib
import mmap
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal

import numpy as np
import torch
from torch import Tensor

Form = Literal["as it is", "transposed", "channels last"]

_MIN_BYTES: Final = 8
"""Fewer could be found by chance."""

_NEEDLE_BYTES: Final = 64
_SMALL_BYTES: Final = 1 << 22
_DIGEST: Final = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_COPY_BYTES: Final = 1 << 24


class NotATemplate(ValueError):
    """A weight is not to be found in an artifact: the converter has made something else of it."""


@dataclass(frozen=True)
class Slot:
    """Where a tensor lies in a file of an artifact, and in which form: XNNPACK has the channels of convolutions last.

    Where it `is_digest`, there is only the SHA-256 of the tensor's bytes, in hexadecimal: ExecuTorch names a constant
    by it.
    """

    file: str
    offset: int
    tensor: str
    dtype: str
    form: Form
    is_digest: bool = False

    def content(self, tensor: Tensor) -> bytes:
        """The bytes that belong there."""
        content = _content(tensor, self.dtype, self.form)
        return _digest(content) if self.is_digest else content


def find_slots(folder: Path, tensors: Mapping[str, Tensor]) -> tuple[Slot, ...]:
    """Every place in the files under `folder` where a tensor lies, in the order of the files.

    Raises `NotATemplate` if a tensor lies nowhere, or is too short to be sure.
    """
    wanted = [each for name, tensor in tensors.items() for each in _forms(name, tensor)]
    slots: list[Slot] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size):
        file = path.relative_to(folder).as_posix()
        with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            slots += _slots_in(content, file, wanted)
    found = {slot.tensor for slot in slots}
    missing = [name for name in tensors if name not in found]
    if missing:
        raise NotATemplate(f"{len(missing)} weights are not in the artifact as they are, {missing[0]} among them")
    return tuple(_outermost(slots, {name: tensor.numel() for name, tensor in tensors.items()}))


def _outermost(slots: Iterable[Slot], elements: Mapping[str, int]) -> Iterator[Slot]:
    """The slots in order, without those inside another: a part of a weight that lies there whole."""
    file, end = "", 0
    for slot in sorted(slots, key=lambda slot: (slot.file, slot.offset, -elements[slot.tensor])):
        if slot.file != file:
            file, end = slot.file, 0
        if slot.offset >= end:
            yield slot
            end = slot.offset + (64 if slot.is_digest else elements[slot.tensor] * getattr(torch, slot.dtype).itemsize)


def fill(template: Path, slots: Iterable[Slot], tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write the files under `template` to `folder`, with these tensors in the slots."""
    by_file: dict[str, list[Slot]] = {}
    for slot in slots:
        by_file.setdefault(slot.file, []).append(slot)
    for path in sorted(path for path in template.rglob("*") if path.is_file()):
        name = path.relative_to(template).as_posix()
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name not in by_file:
            shutil.copyfile(path, folder / name)
            continue
        with path.open("rb") as source, (folder / name).open("wb") as target:
            for slot in by_file[name]:
                _copy(source, target, slot.offset - target.tell())
                content = slot.content(tensors[slot.tensor])
                target.write(content)
                source.seek(len(content), 1)
            _copy(source, target, path.stat().st_size - target.tell())


@dataclass(frozen=True)
class _Wanted:
    """A tensor in one form, and how its bytes begin."""

    name: str
    tensor: Tensor
    dtype: str
    form: Form
    start: bytes
    digest: bytes


def _forms(name: str, tensor: Tensor) -> Iterator[_Wanted]:
    dtypes = [str(tensor.dtype).removeprefix("torch.")] + ["float16"] * (tensor.dtype is torch.float32)
    forms: list[Form] = ["as it is"]
    forms += ["transposed"] * (tensor.dim() > 1)
    forms += ["channels last"] * (tensor.dim() == 4)
    for dtype in dtypes:
        for form in forms:
            whole = _content(tensor, dtype, form)
            if len(whole) < _MIN_BYTES:
                raise NotATemplate(f"weight {name} has {len(whole)} bytes, too few to be found again")
            yield _Wanted(name, tensor, dtype, form, whole[:_NEEDLE_BYTES], _digest(whole))


def _slots_in(content: mmap.mmap, file: str, wanted: Sequence[_Wanted]) -> Iterator[Slot]:
    for each, place in _candidates(content, wanted):
        whole = _content(each.tensor, each.dtype, each.form)
        if content[place : place + len(whole)] == whole:
            yield Slot(file, place, each.name, each.dtype, each.form)
    digests = {each.digest: each for each in reversed(wanted)}  # of equal ones the first
    for match in _DIGEST.finditer(content):
        if (found := digests.get(match.group())) is not None:
            yield Slot(file, match.start(), found.name, found.dtype, found.form, is_digest=True)


def _candidates(content: mmap.mmap, wanted: Sequence[_Wanted]) -> Iterator[tuple[_Wanted, int]]:
    """Where a tensor may begin: anywhere in a small file; in a large one, which is mapped, at whole words."""
    if len(content) < _SMALL_BYTES:
        for each in wanted:
            place = content.find(each.start)
            while place >= 0:
                yield each, place
                place = content.find(each.start, place + 1)
        return
    by_word: dict[int, list[_Wanted]] = {}
    for each in wanted:
        by_word.setdefault(int.from_bytes(each.start[:4], sys.byteorder), []).append(each)
    known = np.array(sorted(by_word), dtype=np.uint32)
    for begin in range(0, len(content) - 3, _COPY_BYTES):
        words = np.frombuffer(content[begin : begin + _COPY_BYTES].ljust(_COPY_BYTES, b"\0"), dtype=np.uint32)
        near = known[np.searchsorted(known, words).clip(max=len(known) - 1)]
        for i in np.flatnonzero(near == words):
            place = begin + 4 * int(i)
            for each in by_word[int(words[i])]:
                if content[place : place + len(each.start)] == each.start:
                    yield each, place


def _content(tensor: Tensor, dtype: str, form: Form) -> bytes:
    value = tensor.detach().to(getattr(torch, dtype))
    if form == "transposed":
        value = value.transpose(-1, -2)
    elif form == "channels last":
        value = value.permute(0, 2, 3, 1)
    return value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _copy(source: BinaryIO, target: BinaryIO, count: int) -> None:
    """Copy the next `count` bytes."""
    assert count >= 0, "slots overlap"
    while count:
        chunk = source.read(min(count, _COPY_BYTES))
        assert chunk, "a template is shorter than its slots say"
        target.write(chunk)
        count -= len(chunk)
