"""The same model gives the same bytes, on every target."""

import hashlib
from pathlib import Path

import pytest
import torch

from tests.support.programs import emit_one
from tests.zoo import ZOO
from tm_export.exporters.capture.capture import capture
from tm_export.exporters.lowering.choose import lower_merges
from tm_export.exporters.merging.raise_merges import raise_merges
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.targets.base import Signature, find_target


def emitted(target_name: str, folder: Path) -> dict[str, str]:
    """Hashes of all files that an export of the same model writes, from capture on."""
    target, options = find_target(target_name), ExportOptions()
    torch.manual_seed(0)
    module, inputs = ZOO["tome_exclusive"]()
    raised = raise_merges(capture(module, inputs), 0).program
    half = target.precision(options) == "fp16"
    program = target.legalize(lower_merges(raised, target.costs(options), options, half=half), options).program
    emit_one(target, program, Signature(("images",), ("y",)), folder, options)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("target", ["coreml", "onnx", "executorch"])
def test_two_exports_are_equal_byte_for_byte(target: str, tmp_path: Path) -> None:
    first, second = emitted(target, tmp_path / "a"), emitted(target, tmp_path / "b")
    assert first and first == second


def test_sites_are_told_alike_each_time() -> None:
    def told() -> list[str]:
        module, inputs = ZOO["tome_mean"]()
        return [site.source for site in raise_merges(capture(module, inputs), 0).sites]

    assert len({tuple(told()) for _ in range(6)}) == 1
