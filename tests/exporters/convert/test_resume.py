"""Exports that were interrupted go on where they stopped, and end in the same bytes."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tm_export
from tests.support.bytes_of_bundle import contents
from tm_export.exporters import compile as compiler
from tm_export.exporters.convert import convert
from tm_export.exporters.errors import UsageError
from tm_export.exporters.options import MergeLowering

ONE_LAYER = 3000
"""Bytes: a layer takes 2560."""


class Layer(nn.Module):
    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(x)))


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(Layer(), Layer(), Layer())


def export(
    out: Path, *, seed: int = 0, budget: int | None = ONE_LAYER, resume: bool = True, lowering: MergeLowering = "auto"
) -> Path:
    x = torch.linspace(-1, 1, 32).reshape(2, 16)
    return tm_export.export(
        model(seed), x, out=out, name="layers", block_budget=budget, resume=resume, merge_lowering=lowering
    ).path


def blocks(bundle: Path) -> dict[str, int]:
    (found,) = json.loads((bundle / "reports" / "export.json").read_bytes())["blocks"]
    return {key: found[key] for key in ("blocks", "programs", "conversions")}


def partial(out: Path) -> Path:
    return out / ".layers-onnx.partial"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of an export that nothing interrupted."""
    return export(tmp_path_factory.mktemp("whole"))


def interrupt_before_verifying(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def interrupted(*_: object) -> None:
        raise error

    monkeypatch.setattr(compiler, "verify_component", interrupted)


@pytest.fixture
def converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output folder in which an export was interrupted when all its blocks were written."""
    interrupt_before_verifying(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        export(tmp_path)
    monkeypatch.undo()
    return tmp_path


def test_equal_layers_are_converted_once(whole: Path) -> None:
    assert blocks(whole) == {"blocks": 3, "programs": 1, "conversions": 1}


def test_interrupted_export_goes_on_without_converting_again(converted: Path, whole: Path) -> None:
    bundle = export(converted)
    assert blocks(bundle) == {"blocks": 3, "programs": 1, "conversions": 0}
    assert contents(bundle) == contents(whole)
    assert list(converted.iterdir()) == [bundle]


def test_export_on_a_disk_that_was_full_goes_on_when_there_is_room(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, written = convert._Converter._place, []

    def full_at_the_third(self: convert._Converter, made: Path, i: int) -> None:
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(i)
        place(self, made, i)

    monkeypatch.setattr(convert._Converter, "_place", full_at_the_third)
    with pytest.raises(UsageError, match=r"no space is left for .*: make room"):
        export(tmp_path)
    monkeypatch.undo()
    assert sorted(path.name for path in (partial(tmp_path) / "new" / "model").iterdir()) == ["00", "01"]
    times = {path: path.stat().st_mtime_ns for path in (partial(tmp_path) / "new" / "model").rglob("*.onnx")}
    bundle = export(tmp_path)
    assert contents(bundle) == contents(whole)
    for path, time in times.items():  # what was finished has not been written again
        assert (bundle / path.relative_to(partial(tmp_path) / "new")).stat().st_mtime_ns == time


def test_no_resume_converts_again(converted: Path, whole: Path) -> None:
    bundle = export(converted, resume=False)
    assert blocks(bundle)["conversions"] == 1
    assert contents(bundle) == contents(whole)


def test_damaged_block_is_written_again(converted: Path, whole: Path) -> None:
    graph = partial(converted) / "new" / "model" / "01" / "full.onnx"
    content = bytearray(graph.read_bytes())
    content[-1] ^= 1
    graph.write_bytes(content)
    bundle = export(converted)
    assert blocks(bundle)["conversions"] == 1
    assert contents(bundle) == contents(whole)


def test_blocks_of_another_partition_are_neither_taken_nor_left_in_the_bundle(converted: Path, tmp_path: Path) -> None:
    bundle = export(converted, budget=None)
    assert blocks(bundle) == {"blocks": 1, "programs": 1, "conversions": 1}
    assert [path.name for path in (bundle / "model").iterdir()] == ["00"]
    assert contents(bundle) == contents(export(tmp_path / "fresh", budget=None))


def test_blocks_of_other_weights_are_not_taken(converted: Path, tmp_path: Path, whole: Path) -> None:
    bundle = export(converted, seed=1)
    assert blocks(bundle)["conversions"] == 1
    assert contents(bundle) == contents(export(tmp_path / "fresh", seed=1))
    assert contents(bundle) != contents(whole)


def test_blocks_of_other_options_are_not_taken(converted: Path) -> None:
    """Not even where they would be the same, as here, where nothing merges."""
    assert blocks(export(converted, lowering="onehot"))["conversions"] == 1
