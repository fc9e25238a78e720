"""Every bad input gives one line that names the thing, the stated exit code, and leaves nothing behind."""

import errno
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tm_export.exporters import api
from tm_export.exporters.bundle.staging import Staging
from tm_export.exporters.cli.command import main
from tm_export.exporters.errors import BudgetExceeded, ConversionRefused, ExitCode, ParityFailed
from tm_export.exporters.targets.base import Target
from tm_export.exporters.verify import component
from tm_export.models.spec.registry import find_model

Refused = Callable[..., str]

MODELS = """
import torch
from torch import nn

class Scale(nn.Module):
    def forward(self, x):
        return x * 2.0

class Overflow(nn.Module):
    '''Finite in fp32; in fp16, whose largest number is 65504, it is not.'''
    def forward(self, x):
        return x * 3e4 * 3e4

class Bessel(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)

class Threshold(nn.Module):
    def forward(self, x):
        return x[x[:, 0] > 0.5]

class Branch(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x

class Layers(nn.Module):
    '''Two small layers around a large one.'''
    def __init__(self):
        super().__init__()
        self.before, self.large, self.behind = nn.Linear(4, 64), nn.Linear(64, 64), nn.Linear(64, 4)

    def forward(self, x):
        x = torch.relu(self.before(x))
        x = torch.relu(self.large(x))
        return self.behind(x)

class WrongShape(nn.Module):
    def forward(self, x):
        return x @ torch.ones(3, 3)

def scale():
    return Scale(), torch.ones(2, 4)

def overflow():
    return Overflow(), torch.ones(2, 4)

def bessel():
    return Bessel(), torch.ones(2, 4)

def layers():
    torch.manual_seed(0)
    return Layers(), torch.ones(2, 4)

def other_weights():
    torch.manual_seed(0)
    return {"full": Layers(), "merged": Layers()}, torch.ones(2, 4)

def threshold():
    return Threshold(), torch.rand(2, 4)

def branch():
    return Branch(), torch.ones(2, 4)

def wrong_shape():
    return WrongShape(), torch.ones(2, 4)

def raises():
    raise RuntimeError("no such layer: 12")

def nothing():
    pass

def nan_weight():
    module = nn.Linear(4, 4)
    module.bias.data[1] = float("nan")
    return module, torch.ones(2, 4)

def nan_input():
    return Scale(), torch.full((2, 4), float("nan"))
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "models.py"
    path.write_text(MODELS)
    return path


@pytest.fixture
def refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Run `tm-export`, expect it to fail with `code`, and return its message."""

    def run(*argv: str | Path, code: int = ExitCode.USAGE) -> str:
        out = tmp_path / "out"
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
        assert main([*map(str, argv), "-o", str(out)]) == code
        captured = capfd.readouterr()
        assert captured.out == ""
        assert "Traceback" not in captured.err
        messages = [line for line in captured.err.splitlines() if line.startswith("tm-export: error: ")]
        assert messages == captured.err.splitlines()[-1:]
        after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if ".failed" not in str(path)}
        assert after == before
        return messages[0]

    return run


def test_unknown_names_are_refused(refused: Refused, models: Path, tmp_path: Path) -> None:
    assert "did you mean 'tinychart-tiny'" in refused("-m", "tinychart-tin", "--target", "onnx")
    assert "'onix' is not known: choose one of coreml, executorch, onnx" in refused("--target", "onix")
    assert "gone.py does not exist" in refused("-m", f"{tmp_path / 'gone.py'}:build", "--target", "onnx")
    assert "did you mean 'scale'" in refused("-m", f"{models}:scalee", "--target", "onnx")


def test_no_target_is_refused(refused: Refused) -> None:
    assert "no target is given: add --target coreml" in refused()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--precision", "int3"), "'int3' is not one of 'fp32', 'fp16'"),
        (("--backend", "qnn"), "'qnn'"),
        (("--merge-lowering", "magic"), "'magic'"),
        (("--seed", "x"), "'--seed': Input should be a valid integer"),
        (("--max-regions", "-1"), "'--max-regions': Input should be greater than or equal to 0"),
        (("--no-such-option",), "--no-such-option"),
        (("positional",), "positional"),
    ],
)
def test_unknown_options_are_usage_errors(refused: Refused, argv: tuple[str, ...], said: str) -> None:
    assert said in refused("--target", "onnx", *argv)


def test_precision_that_one_target_lacks_is_refused_before_the_other_is_exported(
    refused: Refused, models: Path
) -> None:
    found = refused("-m", f"{models}:scale", "--target", "coreml", "--target", "onnx", "--precision", "fp16")
    assert "target onnx computes in fp32" in found


def test_function_that_raises_or_returns_the_wrong_thing_is_refused(refused: Refused, models: Path) -> None:
    raised = refused("-m", f"{models}:raises", "--target", "onnx")
    assert "RuntimeError: no such layer: 12" in raised
    assert 'raise RuntimeError("no such layer: 12")' in raised
    assert "is None: return (module, example_inputs)" in refused("-m", f"{models}:nothing", "--target", "onnx")


def test_module_that_does_not_run_on_its_inputs_is_refused_with_its_line(refused: Refused, models: Path) -> None:
    found = refused("-m", f"{models}:wrong_shape", "--target", "onnx")
    assert "WrongShape does not run on its example inputs" in found
    assert "return x @ torch.ones(3, 3)" in found


def test_nan_in_weights_and_inputs_is_refused(refused: Refused, models: Path) -> None:
    assert "parameter 'bias'" in refused("-m", f"{models}:nan_weight", "--target", "onnx")
    assert "example input 'x' holds NaN" in refused("-m", f"{models}:nan_input", "--target", "onnx")


@pytest.mark.parametrize(
    ("function", "line"), [("threshold", "return x[x[:, 0] > 0.5]"), ("branch", "if x.sum() > 0:")]
)
def test_data_dependence_is_refused_with_its_line(refused: Refused, models: Path, function: str, line: str) -> None:
    found = refused("-m", f"{models}:{function}", "--target", "onnx", code=ExitCode.REFUSED)
    assert "depends on data" in found
    assert line in found
    assert ("--capacity" in found) == (function == "threshold")


@pytest.mark.parametrize("target", ["onnx", "coreml", "executorch"])
def test_operator_that_a_target_lacks_is_refused_by_name_and_line(refused: Refused, models: Path, target: str) -> None:
    argv = ("-m", f"{models}:bessel", "--target", target)
    found = refused(*argv, code=ExitCode.REFUSED)
    assert "bessel_j0" in found
    assert ": return torch.special.bessel_j0(x)" in found
    assert refused(*argv, "--dry-run", code=ExitCode.REFUSED) == found


def test_one_target_that_refuses_does_not_keep_the_others_from_being_tried(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled(source: object, target: Target, *_: object) -> None:
        raise {"onnx": ParityFailed, "coreml": ConversionRefused, "executorch": BudgetExceeded}[target.name]("no")

    monkeypatch.setattr(api, "compile_model", compiled)
    targets = ("--target", "coreml", "--target", "onnx", "--target", "executorch")
    argv = ["-m", f"{models}:scale", *targets, "-o", str(tmp_path / "out")]
    assert main(argv) == ExitCode.REFUSED
    said = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert said == [f"tm-export: error: {target}: no" for target in ("coreml", "onnx", "executorch")]
    assert main([*argv, "--json"]) == ExitCode.REFUSED
    answer = json.loads(capsys.readouterr().out)
    assert (answer["exit_code"], answer["error"], answer["bundles"]) == (3, "coreml: no", [])
    assert [(each["target"], each["exit_code"]) for each in answer["failures"]] == [
        ("coreml", 3),
        ("onnx", 4),
        ("executorch", 5),
    ]


def test_a_defect_in_one_target_does_not_keep_the_others_from_being_tried(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled(source: object, target: Target, *_: object) -> None:
        raise {"onnx": BudgetExceeded("too large"), "coreml": RuntimeError("oh\nand more")}[target.name]

    monkeypatch.setattr(api, "compile_model", compiled)
    argv = ["-m", f"{models}:scale", "--target", "coreml", "--target", "onnx", "-o", str(tmp_path / "out")]
    assert main(argv) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert said == [
        "tm-export: error: coreml: RuntimeError: oh (a defect in tm-export or in a converter; --debug shows where)",
        "tm-export: error: onnx: too large",
    ]


def test_artifact_that_computes_something_else_is_refused_and_its_reports_kept(
    refused: Refused, models: Path, tmp_path: Path
) -> None:
    found = refused("-m", f"{models}:overflow", "--target", "coreml", code=ExitCode.PARITY)
    assert "model/00/full" in found
    assert "coreml" in found
    assert "'output_0'" in found
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["models-overflow-coreml.failed"]
    assert "parity.json" in [path.name for path in (tmp_path / "out" / "models-overflow-coreml.failed").iterdir()]


def test_too_many_regions_are_a_failed_budget(refused: Refused, models: Path) -> None:
    argv = ("-m", f"{models}:scale", "--target", "coreml", "--max-regions", "0")
    assert "cut into 1 regions, --max-regions allows 0" in refused(*argv, code=ExitCode.BUDGET)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("0", "'0' is no size: write a positive number and a unit, such as 1.2GB"),
        ("0MB", "'0MB' is less than one byte"),
        ("-1MB", "'-1MB' is no size"),
        ("20000", "'20000' is no size: write a positive number and a unit"),
        ("5 parsecs", "units are B, kB, MB"),
        ("", "'' is no size"),
    ],
)
def test_block_budget_that_is_no_size_is_refused(refused: Refused, models: Path, budget: str, said: str) -> None:
    found = refused("-m", f"{models}:layers", "--target", "onnx", f"--block-budget={budget}")
    assert said in found
    assert "--block-budget: " in found
    assert "or write none for no bound" in found


def test_block_budget_below_one_operator_is_refused_by_its_name_and_line(refused: Refused, models: Path) -> None:
    argv = ("-m", f"{models}:layers", "--target", "onnx", "--block-budget")
    found = refused(*argv, "10kB", code=ExitCode.BUDGET)
    assert "aten.linear.default at models.py:" in found
    assert "x = torch.relu(self.large(x)) needs 17,664 bytes" in found  # (64 + 1)·64 weights, 2·2·64 activations, ×4
    assert found.endswith("and --block-budget is 10,000: give at least 17,664")
    assert main([*argv, "17664B", "--dry-run"]) == ExitCode.OK


@pytest.mark.parametrize("budget", ["none", "20kB", "18kB"])
def test_variants_with_other_weights_are_refused_by_the_weights_name(
    refused: Refused, models: Path, budget: str
) -> None:
    found = refused("-m", f"{models}:other_weights", "--target", "onnx", "--block-budget", budget)
    assert "weight 'before.weight' of model is not the same in variant 'merged': variants run the same weights" in found


@pytest.mark.parametrize("jobs", ["0", "-2"])
def test_too_few_jobs_are_refused(refused: Refused, models: Path, jobs: str) -> None:
    assert f"jobs {jobs} is too few: give at least 1" in refused(
        "-m", f"{models}:scale", "--target", "onnx", "--jobs", jobs
    )


@pytest.fixture
def weights() -> dict[str, Tensor]:
    component = next(each for each in find_model("tinychart-tiny").components if each.name == "vision_tower")
    return dict(component.variants["full"]().state_dict())


def saved(weights: dict[str, Tensor], path: Path) -> Path:
    save_file({key: value.contiguous() for key, value in weights.items()}, path)
    return path


def missing_key(weights: dict[str, Tensor], folder: Path) -> tuple[Path, str]:
    key = sorted(weights)[0]
    return saved({name: value for name, value in weights.items() if name != key}, folder / "w.safetensors"), key


def extra_key(weights: dict[str, Tensor], folder: Path) -> tuple[Path, str]:
    return saved(weights | {"ema.decay": torch.ones(1)}, folder / "w.safetensors"), "ema.decay"


def wrong_shape(weights: dict[str, Tensor], folder: Path) -> tuple[Path, str]:
    key = sorted(weights)[0]
    return saved(weights | {key: torch.ones(7)}, folder / "w.safetensors"), f"{key} has shape [7]"


def not_finite(weights: dict[str, Tensor], folder: Path) -> tuple[Path, str]:
    key = sorted(weights)[0]
    return saved(weights | {key: weights[key] * torch.nan}, folder / "w.safetensors"), f"{key} holds NaN"


def truncated(weights: dict[str, Tensor], folder: Path) -> tuple[Path, str]:
    path = saved(weights, folder / "w.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    return path, "is truncated"


def absent(weights: dict[str, Tensor], folder: Path) -> tuple[Path, str]:
    return folder / "gone.safetensors", "does not exist"


def missing_shard(weights: dict[str, Tensor], folder: Path) -> tuple[Path, str]:
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    names = {key: f"model-{i % 2}.safetensors" for i, key in enumerate(sorted(weights))}
    saved(
        {key: weights[key] for key in names if names[key] == "model-0.safetensors"}, checkpoint / "model-0.safetensors"
    )
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return checkpoint, "model-1.safetensors"


class Payload:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, ("pwned",)


def code_in_a_pickle(weights: dict[str, Tensor], folder: Path) -> tuple[Path, str]:
    torch.save({"weight": Payload()}, folder / "w.bin")
    return folder / "w.bin", "may be code"


def code_in_a_bare_pickle(weights: dict[str, Tensor], folder: Path) -> tuple[Path, str]:
    (folder / "w.pt").write_bytes(pickle.dumps(Payload()))
    return folder / "w.pt", "w.pt"


@pytest.mark.parametrize(
    "spoil",
    [
        missing_key,
        extra_key,
        wrong_shape,
        not_finite,
        truncated,
        absent,
        missing_shard,
        code_in_a_pickle,
        code_in_a_bare_pickle,
    ],
)
def test_bad_checkpoint_is_refused(
    refused: Refused,
    weights: dict[str, Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[dict[str, Tensor], Path], tuple[Path, str]],
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint, said = spoil(weights, tmp_path)
    model = ("-m", "tinychart-tiny", "--component", "vision_tower")
    found = refused(*model, "--target", "onnx", "--checkpoint", checkpoint)
    assert str(checkpoint) in found
    assert said in found
    assert not (tmp_path / "pwned").exists()


def test_missing_checkpoint_is_asked_for(refused: Refused) -> None:
    assert "give them with --checkpoint" in refused("-m", "ondevice-sora", "--target", "onnx")


def test_output_folder_of_someone_else_is_refused(refused: Refused, models: Path, tmp_path: Path) -> None:
    place = tmp_path / "out" / "models-scale-onnx"
    place.mkdir(parents=True)
    (place / "thesis.txt").write_text("years of work")
    found = refused("-m", f"{models}:scale", "--target", "coreml", "--target", "onnx")
    assert str(place) in found
    assert "--force" in found


def test_output_folder_that_is_a_file_is_refused(
    models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("a file")
    assert main(["-m", f"{models}:scale", "--target", "onnx", "-o", str(tmp_path / "out")]) == ExitCode.USAGE
    assert "is no folder" in capfd.readouterr().err.splitlines()[-1]


def test_output_folder_that_is_read_only_is_refused(
    refused: Refused, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "mkdir", read_only)
    found = refused("-m", f"{models}:scale", "--target", "onnx")
    assert "models-scale-onnx cannot be written (Read-only file system)" in found


def test_a_folder_for_temporary_files_too_deep_for_a_socket_is_told(models: Path, tmp_path: Path) -> None:
    """In a process of its own: this one's server of workers is up already."""
    deep = tmp_path / ("deep" * 30)
    deep.mkdir()
    command = [sys.executable, "-m", "tm_export.exporters.cli.command", "-m", f"{models}:scale", "--target", "onnx"]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "out")],
        env=os.environ | {"TMPDIR": str(deep)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.USAGE
    assert f"temporary files, {deep}, is too long for a socket: set TMPDIR to a shorter one" in done.stderr


def test_disk_that_fills_up_is_told(refused: Refused, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"weights")

    monkeypatch.setattr(component, "write_golden", full)
    found = refused("-m", f"{models}:scale", "--target", "onnx", "--no-resume")
    assert "no space is left for" in found
    assert "make room" in found


def test_ctrl_c_leaves_nothing(refused: Refused, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(
        source: object, target: object, options: object, effort: object, staging: Staging, _: object
    ) -> None:
        (staging.bundle / "half.onnx").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "compile_model", interrupted)
    assert "interrupted" in refused("-m", f"{models}:scale", "--target", "onnx", code=130)


def test_defect_is_told_in_one_line_and_shown_with_debug(
    refused: Refused,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr(api, "compile_model", defect)
    argv = ("-m", f"{models}:scale", "--target", "onnx")
    found = refused(*argv, code=1)
    assert "ZeroDivisionError: first line" in found
    assert "--debug shows where" in found
    assert main([*argv, "-o", str(tmp_path / "out"), "--debug"]) == 1
    shown = capfd.readouterr().err
    assert "Traceback" in shown
    assert "second line" in shown
