"""A model that Core ML's delegate takes whole, and one without weights, through the pipeline."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from torch import nn

import tm_export
from tests.support.programs import emit_one
from tm_export.exporters.bundle.bundle import Bundle
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.targets.base import find_target

TARGETS = ("coreml", "onnx", "executorch")


def test_core_ml_delegate_takes_a_merging_model_whole(tmp_path: Path) -> None:
    target, options = find_target("executorch"), ExportOptions(backend="coreml")
    from tests.zoo import ZOO
    from tm_export.exporters.capture.capture import capture
    from tm_export.exporters.lowering.choose import lower_merges
    from tm_export.exporters.merging.raise_merges import raise_merges
    from tm_export.exporters.targets.base import Signature

    module, inputs = ZOO["tome_exclusive"]()
    raised = raise_merges(capture(module, inputs), 0).program
    program = target.legalize(lower_merges(raised, target.costs(options), options, half=True), options).program
    path, variant = emit_one(target, program, Signature(("images",), ("y",)), tmp_path, options)
    placement = target.placement(path, variant.function)
    assert placement.regions == 1 and not placement.outside


@pytest.mark.parametrize("target", TARGETS)
def test_a_model_without_weights_runs_from_its_bundle(target: str, tmp_path: Path) -> None:
    x = torch.randn(2, 3)
    bundle = tm_export.export(nn.Softmax(dim=1), x, target=target, out=tmp_path, name="softmax", precision="fp32")
    moved = Path(shutil.copytree(bundle.path, tmp_path / "moved"))
    with Bundle.read(moved).open() as session:
        (out,) = session.run({"input": x.numpy()}).values()
    torch.testing.assert_close(torch.from_numpy(out), x.softmax(1))


def test_an_export_leaves_no_temporary_files(tmp_path: Path) -> None:
    code = (
        "import torch, tm_export\n"
        "linear, x = torch.nn.Linear(3, 3), torch.ones(1, 3)\n"
        f"tm_export.export(linear, x, target='coreml', precision='fp32', out={str(tmp_path)!r})"
    )
    # Not in tmp_path: the name of a socket in it would be longer than the system allows.
    with TemporaryDirectory() as temporary:
        environment = os.environ | {"TMPDIR": temporary}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        left = [path for path in Path(temporary).rglob("*") if path.is_file()]
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) and not left
