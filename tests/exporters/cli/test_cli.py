import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

import tm_export
from tm_export.exporters.cli.command import main
from tm_export.exporters.errors import UsageError
from tm_export.exporters.source import named
from tm_export.models.spec.registry import ComponentSpec, ModelSpec
from tm_export.models.spec.seeding import seeded
from tm_export.models.tinychart.components import vision_tower_component
from tm_export.models.tinychart.tiny.sizes import VISION_TOWER
from tm_export.runtime.manifest import read_manifest, verify_files

MODELS = """
import torch
from torch import nn

class PairMean(nn.Module):
    '''Tokens [B, N, C]: neighbours are averaged.'''
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)
    def forward(self, tokens):
        merged = (tokens[:, ::2] + tokens[:, 1::2]) / 2
        return self.head(merged)

def build():
    print("the user's own chatter")
    torch.manual_seed(0)
    return PairMean().eval(), torch.randn(2, 8, 4)
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "models.py"
    path.write_text(MODELS)
    return f"{path}:build"


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from tm_export.exporters.cli.command import main; code = main(['--help']); "
        "assert 'torch' not in sys.modules and 'pydantic' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for option in ("--target", "--precision", "--merge-lowering", "--dry-run", "FILE.py:FUNC", "Exit codes"):
        assert option in done.stdout


def test_import_of_the_package_is_light() -> None:
    code = "import sys, tm_export; assert 'torch' not in sys.modules; assert callable(tm_export.export)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_attribute_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'compile'"):
        _ = tm_export.compile


def test_list_shows_models_and_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"ondevice-sora-tiny +trained", shown)
    assert re.search(r"tinychart-3b +checkpoint", shown)
    for target in ("coreml", "executorch", "onnx"):
        assert target in shown.splitlines()[-3:][0] + shown.splitlines()[-2] + shown.splitlines()[-1]
    assert main(["--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["targets"] == ["coreml", "executorch", "onnx"]
    assert "tinychart-tiny" in [each["name"] for each in listed["models"]]


def test_export_writes_a_bundle_and_says_what_it_is(
    model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["-m", model, "--target", "onnx", "-o", str(out)]) == 0
    shown = capfd.readouterr()
    bundle = out / "models-build-onnx"
    verify_files(bundle, read_manifest(bundle))
    assert [path.name for path in out.iterdir()] == ["models-build-onnx"]
    assert f"{bundle}: " in shown.out
    assert len(shown.out.removeprefix("the user's own chatter\n").splitlines()) == 3
    assert re.search(r"verified, in \d.*peak RSS \d", shown.out)
    assert re.search(r"the worst of \d+ comparisons with PyTorch: relative error .* in output_0 \(model/", shown.out)
    assert f"next: tm-run {bundle}" in shown.out
    for stage in ("capture", "rewrite", "check", "lower", "convert", "verify"):
        assert re.search(rf"model full: {stage} \d+\.\d s", shown.err)
    assert "seeded" not in shown.err


def test_verbose_shows_every_file_and_the_worst_comparison_first(
    model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["-m", model, "--target", "onnx", "-o", str(tmp_path), "-v"]) == 0
    shown = capfd.readouterr().out
    assert re.search(r"model/00/full +onnxruntime +3 +output_0", shown)
    assert "model/00/full.onnx" in shown
    errors = [float(found) for found in re.findall(r" ([0-9.]+e[+-][0-9]+) ", shown.split("the worst of")[0])]
    assert len(errors) > 3 and errors == sorted(errors, reverse=True)


def test_quiet_prints_nothing_but_errors(model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", model, "--target", "onnx", "-o", str(tmp_path), "-q"]) == 0
    assert capfd.readouterr() == ("the user's own chatter\n", "")
    assert main(["-m", model, "--target", "nowhere", "-o", str(tmp_path), "-q"]) == 2
    assert "target 'nowhere' is not known" in capfd.readouterr().err


def test_json_is_one_object_and_nothing_else(model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    argv = ["-m", model, "--target", "onnx", "--target", "executorch", "-o", str(tmp_path / "out"), "--json"]
    assert main(argv) == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["exit_code"] == 0
    assert [bundle["target"] for bundle in answer["bundles"]] == ["onnx", "executorch"]
    for bundle in answer["bundles"]:
        assert Path(bundle["path"], "manifest.json").is_file()
        assert bundle["weights"] == "module"
        assert bundle["peak_rss_bytes"] > 50e6
        assert {record["engine"] for record in bundle["parity"]} >= {"rewrite"}
        assert all(record["passed"] for record in bundle["parity"])


def test_json_tells_an_error_on_stdout_too(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", "no-such-model", "--target", "onnx", "--json"]) == 2
    shown = capfd.readouterr()
    answer = json.loads(shown.out)
    assert answer["exit_code"] == 2
    assert "unknown model 'no-such-model'" in answer["error"]
    assert shown.err == f"tm-export: error: {answer['error']}\n"


def test_dry_run_shows_merge_sites_and_writes_nothing(
    model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["-m", model, "--target", "coreml", "-o", str(out), "--dry-run"]) == 0
    shown = capfd.readouterr().out
    assert f"would write to {out / 'models-build-coreml'}: model/00.mlpackage" in shown
    assert not out.exists()


def test_dry_run_of_the_default_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--component", "sampler", "--target", "onnx", "--dry-run", "--json", "-o", str(tmp_path)]) == 0
    (plan,) = json.loads(capfd.readouterr().out)["plans"]
    assert plan["artifacts"] == ["sampler/00/full.onnx"]


def test_dry_run_says_where_it_merges(model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", model, "--target", "onnx", "--dry-run", "--json", "-o", str(tmp_path)]) == 0
    (plan,) = json.loads(capfd.readouterr().out)["plans"]
    (site,) = plan["merges"]
    assert (site["kind"], site["tokens_before"], site["tokens_after"]) == ("merge", 8, 4)


def test_seeded_weights_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from tm_export.exporters import compile as compiler

    model = ModelSpec("random", "of no use", (seeded_tower(),))
    monkeypatch.setattr(named, "find_model", lambda name: model)
    monkeypatch.setattr(compiler, "plan", lambda *_: ())
    assert main(["-m", "random", "--target", "onnx", "--dry-run", "-o", str(tmp_path)]) == 0
    assert "the weights of random are seeded, not trained" in capfd.readouterr().err


def seeded_tower() -> ComponentSpec:
    tower = vision_tower_component(VISION_TOWER)
    variants = {name: partial(seeded, build, 0) for name, build in tower.variants.items()}
    return replace(tower, variants=variants, weights="seeded", published=None)


def test_python_export_gives_a_bundle_that_runs_as_the_module_does(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    module, x = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()).eval(), torch.randn(2, 4)
    bundle = tm_export.export(module, x, target="onnx", out=tmp_path)
    assert bundle.path == tmp_path / "sequential-onnx"
    shown = capfd.readouterr()
    assert shown.out == ""
    with bundle.open() as session:
        (output,) = session.run({session.variant.inputs[0].name: x.numpy()}).values()
    torch.testing.assert_close(torch.from_numpy(output), module(x).detach())


def test_python_export_takes_a_name_in_place_of_a_module(model: str, tmp_path: Path) -> None:
    bundle = tm_export.export(model, target="onnx", out=tmp_path, name="renamed")
    assert bundle.path == tmp_path / "renamed-onnx"
    with pytest.raises(UsageError, match="brings its own example inputs"):
        tm_export.export(model, torch.ones(1), out=tmp_path)
