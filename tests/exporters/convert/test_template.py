"""Blocks that are written by weights only are what a converter makes of them, to the byte."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tm_export.exporters.capture.capture import capture
from tm_export.exporters.convert.convert import STEM, lower
from tm_export.exporters.convert.template import NotATemplate, Slot, fill, find_slots
from tm_export.exporters.graph.liveness import liveness_of
from tm_export.exporters.graph.tensors import probe_tensor, tensors_of, with_tensors
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.partition.cut import BlockPieces, cut, with_own_outputs
from tm_export.exporters.targets.base import Function, Legalized, Signature, Target, find_target

OPTIONS = ExportOptions()


class Layer(nn.Module):
    """Images [1, C, H, W]: a convolution, then a norm and a product over channels."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.LayerNorm(channels)
        self.linear = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.relu(self.mix(x)).flatten(2).transpose(1, 2)
        tokens = torch.nn.functional.gelu(self.linear(self.norm(tokens)))
        return x + tokens.transpose(1, 2).reshape(x.shape)


class Scaled(nn.Module):
    """A convolution that Core ML's converter scales itself, by a number behind it."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale = torch.full((1, channels, 1, 1), 3.0)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(x) * self.scale


def two_blocks(kind: type[nn.Module]) -> tuple[BlockPieces, BlockPieces]:
    """Two layers as two blocks of one program."""
    torch.manual_seed(0)
    program = with_own_outputs(capture(nn.Sequential(kind(), kind()), (torch.randn(1, 8, 4, 4),)))
    end = len(liveness_of(program).operators)
    first, second = cut({"full": program}, [[0], [end // 2], [end]], ["x"], ["y"])
    assert first.structure == second.structure
    return first, second


def weights_of(block: BlockPieces) -> dict[str, Tensor]:
    held = tensors_of(block.pieces["full"].program)
    return {name: held[name].detach() for name in block.weights}


def converted(block: BlockPieces, weights: Mapping[str, Tensor], target: Target, folder: Path) -> Legalized:
    folder.mkdir()
    legalized = lower(with_tensors(block.pieces["full"].program, weights), target, OPTIONS)
    target.emit({"full": Function(legalized.program, Signature(("x0",), ("y0",)))}, folder, STEM, OPTIONS)
    return legalized


def slots_of(block: BlockPieces, target: Target, folder: Path) -> tuple[tuple[Slot, ...], Legalized]:
    """Convert a block over probes, and find those."""
    probes = {name: probe_tensor(name, tensor) for name, tensor in weights_of(block).items()}
    legalized = converted(block, probes, target, folder)
    held = tensors_of(legalized.program)
    followed = {name: tensor for name, tensor in legalized.recipe.follow(probes).items() if name in held}
    distinct: dict[bytes, str] = {}
    for name, tensor in followed.items():
        distinct.setdefault(repr(tuple(tensor.shape)).encode() + tensor.contiguous().numpy().tobytes(), name)
    return find_slots(folder, {name: followed[name] for name in distinct.values()}), legalized


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("target_name", ["onnx", "coreml", "executorch"])
def test_block_written_by_weights_is_the_one_that_is_converted(target_name: str, tmp_path: Path) -> None:
    target = find_target(target_name)
    first, second = two_blocks(Layer)
    slots, legalized = slots_of(first, target, tmp_path / "template")
    (tmp_path / "filled").mkdir()
    fill(tmp_path / "template", slots, legalized.recipe.follow(weights_of(second)), tmp_path / "filled")
    target.seal(tmp_path / "filled")
    converted(second, weights_of(second), target, tmp_path / "anew")
    filled, anew = contents(tmp_path / "filled"), contents(tmp_path / "anew")
    assert filled.keys() == anew.keys()
    assert [name for name in anew if filled[name] != anew[name]] == []
    assert anew != contents(tmp_path / "template")
    (dtype,) = {slot.dtype for slot in slots}
    assert dtype == ("float16" if target_name == "coreml" else "float32")
    channels_last = {slot.tensor for slot in slots if slot.form == "channels last"}
    assert channels_last == ({"w0"} if target_name == "executorch" else set())
    assert any(slot.is_digest for slot in slots) == (target_name == "executorch")


def test_weight_that_the_converter_folds_is_told(tmp_path: Path) -> None:
    first, _ = two_blocks(Scaled)
    with pytest.raises(NotATemplate, match="2 weights are not in the artifact as they are, w0 among them"):
        slots_of(first, find_target("coreml"), tmp_path / "template")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def raw(tensor: Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


def test_each_form_is_found_and_filled(tmp_path: Path) -> None:
    def digest(tensor: Tensor) -> bytes:
        return hashlib.sha256(raw(tensor)).hexdigest().encode()

    def files(w: Tensor, v: Tensor, c: Tensor) -> dict[str, bytes]:
        return {
            "a/plain.bin": b"head" + raw(w) + b"tail",
            "a/transposed.bin": raw(w.T) + b"|" + raw(v),
            "half.bin": b"x" + raw(w.half()) + raw(w.T.half()),
            "image.bin": raw(c.permute(0, 2, 3, 1)),
            "names.txt": b"[" + digest(w) + b"," + digest(c.permute(0, 2, 3, 1)) + b"," + digest(w.T) + b"]",
            "other.bin": b"nothing of it",
            "empty.bin": b"",
        }

    def write(folder: Path, *tensors: Tensor) -> Path:
        for name, content in files(*tensors).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    names = ("w", "v", "c")
    first = (random(3, 5), random(7, seed=1), random(2, 3, 4, 5, seed=2))
    second = (random(3, 5, seed=3), random(7, seed=4), random(2, 3, 4, 5, seed=5))
    template = write(tmp_path / "template", *first)
    slots = find_slots(template, dict(zip(names, first, strict=True)))
    assert [(slot.file, slot.offset, slot.tensor, slot.dtype, slot.form, slot.is_digest) for slot in slots] == [
        ("a/plain.bin", 4, "w", "float32", "as it is", False),
        ("a/transposed.bin", 0, "w", "float32", "transposed", False),
        ("a/transposed.bin", 61, "v", "float32", "as it is", False),
        ("half.bin", 1, "w", "float16", "as it is", False),
        ("half.bin", 31, "w", "float16", "transposed", False),
        ("image.bin", 0, "c", "float32", "channels last", False),
        ("names.txt", 1, "w", "float32", "as it is", True),
        ("names.txt", 66, "c", "float32", "channels last", True),
        ("names.txt", 131, "w", "float32", "transposed", True),
    ]
    fill(template, slots, dict(zip(names, second, strict=True)), tmp_path / "filled")
    assert contents(tmp_path / "filled") == files(*second)


def test_part_of_a_weight_is_filled_with_the_whole_and_by_itself_elsewhere(tmp_path: Path) -> None:
    whole = random(6, 4)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "w").write_bytes(raw(whole) + b"--" + raw(whole[2:4]))
    slots = find_slots(tmp_path / "in", {"part": whole[2:4], "whole": whole, "row": whole[3]})
    assert [(slot.tensor, slot.offset) for slot in slots] == [("whole", 0), ("part", 98)]
    other = random(6, 4, seed=1)
    fill(tmp_path / "in", slots, {"whole": other, "part": other[2:4]}, tmp_path / "out")
    assert (tmp_path / "out" / "w").read_bytes() == raw(other) + b"--" + raw(other[2:4])


def test_tensor_in_a_large_file_is_found_at_whole_words(tmp_path: Path) -> None:
    """Files of 4 MiB and more are searched word by word, across the borders of what is looked at together."""
    w, v = random(40, 30), random(50, seed=1)
    for folder, one, other in (("in", w, v), ("wanted", random(40, 30, seed=2), random(50, seed=3))):
        content = bytearray(17 << 20)
        for place, tensor in ((12, one), ((16 << 20) - 8, other), ((16 << 20) + 4096, one.T)):
            content[place : place + len(raw(tensor))] = raw(tensor)
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "weights").write_bytes(content)
    slots = find_slots(tmp_path / "in", {"w": w, "v": v})
    assert [(slot.offset, slot.tensor) for slot in slots] == [
        (12, "w"), ((16 << 20) - 8, "v"), ((16 << 20) + 4096, "w")
    ]  # fmt: skip
    fill(tmp_path / "in", slots, {"w": random(40, 30, seed=2), "v": random(50, seed=3)}, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "wanted")


def test_weights_that_are_not_there_or_too_short_are_told(tmp_path: Path) -> None:
    w = random(3, 5)
    (tmp_path / "w").write_bytes(raw(w * 2))
    with pytest.raises(NotATemplate, match="2 weights are not in the artifact as they are, w among them"):
        find_slots(tmp_path, {"w": w, "v": random(4, seed=1)})
    with pytest.raises(NotATemplate, match="weight b has 4 bytes, too few to be found again"):
        find_slots(tmp_path, {"b": random(1)})


@st.composite
def layouts(draw: st.DrawFn) -> list[tuple[bytes, str, bool]]:
    """A file as pieces: filler, the name of a tensor, and whether it lies there transposed."""
    piece = st.tuples(st.binary(max_size=9), st.sampled_from(["a", "b", "c"]), st.booleans())
    return draw(st.lists(piece, min_size=1, max_size=5))


@settings(max_examples=60)
@given(st.lists(layouts(), min_size=1, max_size=3), st.integers(0, 5))
def test_filling_any_files_gives_what_was_to_be_there(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[tuple[bytes, str, bool]]], seed: int
) -> None:
    root = tmp_path_factory.mktemp("files")

    def write(folder: Path, tensors: Mapping[str, Tensor]) -> Path:
        folder.mkdir()
        for i, layout in enumerate(files):
            content = b"".join(
                filler + raw(tensors[name].T if turned else tensors[name]) for filler, name, turned in layout
            )
            (folder / f"{i}.bin").write_bytes(content)
        return folder

    used = {name for layout in files for _, name, _ in layout}
    shapes = {"a": (2, 3), "b": (4, 2), "c": (3, 3)}
    first, second = (
        {name: random(*shapes[name], seed=10 * (seed + at) + i) for i, name in enumerate(sorted(used))}
        for at in (0, 100)
    )
    template, wanted = write(root / "template", first), write(root / "wanted", second)
    fill(template, find_slots(template, first), second, root / "filled")
    assert contents(root / "filled") == contents(wanted)
