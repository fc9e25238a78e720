"""`tm-run`: what it prints, what it refuses, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tm_export
from tests.support.chain_bundles import Chain, make_chain
from tm_export.runtime.cli.run import main
from tm_export.runtime.loading import process_budget
from tm_export.runtime.loading.loader import Loader
from tm_export.runtime.manifest import file_sha256, write_manifest
from tm_export.runtime.run.golden_check import difference


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return make_chain(tmp_path_factory.mktemp("chain") / "bundle")


@pytest.fixture
def own_chain(tmp_path: Path) -> Chain:
    return make_chain(tmp_path / "bundle")


def refused(capsys: pytest.CaptureFixture[str], code: int, message: str, *arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("tm-run: error: ") and message in captured.err, captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], ("BUNDLE", "video", "chart", "Examples", "Exit codes")),
        (
            ["components", "--help"],
            ("--memory-budget", "--prefetch-depth", "--inputs", "--no-verify-files", "Examples"),
        ),
        (["video", "--help"], ("--prompt", "--lpl-first-step", "--memory-budget", "Examples")),
        (["chart", "--help"], ("--image", "--questions", "--memory-budget", "Examples")),
    ],
)
def test_help_imports_no_engine(arguments: list[str], shown: tuple[str, ...]) -> None:
    code = (
        f"import sys; from tm_export.runtime.cli.run import main; code = main({arguments}); "
        "assert not {'torch', 'numpy', 'onnxruntime'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for part in shown:
        assert part in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a-bundle", "--prompt", "x"], "--prompt is an option of tm-run video: tm-run video BUNDLE --prompt"),
        (["a-bundle", "--image", "x.png"], "--image is an option of tm-run chart"),
        (["vido", "a-bundle"], "no command and no bundle is called 'vido': did you mean tm-run video?"),
    ],
)
def test_what_was_meant_for_another_command_is_told(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_without_arguments_the_help_is_all_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    shown = capsys.readouterr()
    assert "Usage: tm-run" in shown.out and shown.err == ""


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tm-export {tm_export.__version__}\n"


def test_golden_runs_of_all_variants_are_compared(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(chain.path), "--memory-budget", "4GB", "--repeat", "3", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert "net (full): first" in out and "net (merged): first" in out
    assert out.count("same as golden") == 2 and "peak RSS" in out and "median" in out


def test_json_is_one_object_and_names_every_difference(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(chain.path), "--variant", "merged", "--json", "--repeat", "2"]) == 0
    answer = json.loads(capsys.readouterr().out)
    (run,) = answer["runs"]
    assert (answer["exit_code"], run["component"], run["variant"]) == (0, "net", "merged")
    assert len(run["seconds"]) == 2 and run["outputs"] == {"h4": "float32[3, 16]"}
    (found,) = run["golden"]
    assert found["passed"] and 0 <= found["max_abs_error"] < 1e-5


def test_the_callers_inputs_are_run_and_outputs_written(chain: Chain, tmp_path: Path) -> None:
    inputs = chain.inputs(5)
    save_file(inputs, tmp_path / "in.safetensors")
    out = tmp_path / "new" / "out.safetensors"
    arguments = [chain.path, "--variant", "merged", "--inputs", tmp_path / "in.safetensors", "--out", out]
    assert main([str(argument) for argument in arguments]) == 0
    np.testing.assert_allclose(load_file(out)["h4"], chain.expected("merged", inputs), rtol=1e-5, atol=1e-5)
    assert [path.name for path in out.parent.iterdir()] == ["out.safetensors"]


def test_outputs_that_differ_from_the_golden_ones_are_reported(
    own_chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own_chain.path / "golden/full_out.safetensors"
    golden = load_file(path)
    save_file({"h4": golden["h4"] + np.float32(0.3)}, path)
    entries = tuple(
        entry.model_copy(update={"sha256": file_sha256(own_chain.path / entry.path)})
        for entry in own_chain.manifest.files
    )
    changed = own_chain.manifest.model_copy(update={"files": entries})
    write_manifest(own_chain.path, changed)
    refused(capsys, 4, "output 'h4' of 'net' (full) differs from the golden one: largest error 0.3", own_chain.path)
    assert main([str(own_chain.path), "--json"]) == 4
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit_code"] == 4 and [run["golden"][0]["passed"] for run in answer["runs"]] == [False, True]
    assert main([str(own_chain.path), "--variant", "merged"]) == 0


def test_damaged_bundles_are_found_before_anything_is_opened(
    own_chain: Chain, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Loader, "__init__", lambda *args, **kwargs: pytest.fail("opened"))
    weights = own_chain.path / "net/02.bin"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(capsys, 2, "02.bin has SHA-256", own_chain.path)
    weights.write_bytes(whole[:100])
    refused(capsys, 2, "02.bin has 100 bytes", own_chain.path)
    weights.unlink()
    refused(capsys, 2, "02.bin is missing", own_chain.path)
    refused(capsys, 2, "is no bundle", own_chain.path / "net")


def test_unproved_files_that_an_engine_refuses_are_its_error(
    own_chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = own_chain.path / "net/01_full.onnx"
    graph.write_bytes(b"\xff" * graph.stat().st_size)
    refused(capsys, 3, "block net/01 (variant full) cannot be loaded", own_chain.path, "--no-verify-files")


def test_budgets_that_cannot_work_are_refused(
    chain: Chain, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(
        capsys, 5, "a memory budget of 1000000 bytes is too small: the process holds", chain.path, "--memory-budget=1MB"
    )
    machine = process_budget.machine_bytes()
    refused(capsys, 2, "is more than this machine's memory", chain.path, "--memory-budget", f"{machine + 1}B")
    refused(capsys, 2, "'-1GB' is no size", chain.path, "--memory-budget=-1GB")
    refused(capsys, 2, "units are B, kB, MB", chain.path, "--memory-budget", "5 parsecs")
    # Room for the process, and for less than a block.
    monkeypatch.setattr(process_budget, "budget_for_blocks", lambda budget, host_bytes: 1000)
    refused(capsys, 5, "too small for block net/00", chain.path, "--memory-budget", "1GB")
    assert main([str(chain.path), "--memory-budget", "1GB", "--json"]) == 5
    error = json.loads(capsys.readouterr().out)["error"]
    least = int(error.rsplit("is ", 1)[1].removesuffix("B"))
    monkeypatch.setattr(process_budget, "budget_for_blocks", lambda budget, host_bytes: least - (10**9 - 1000))
    assert main([str(chain.path), "--memory-budget", "4GB"]) == 0


def test_a_peak_above_the_budget_is_told(
    chain: Chain, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_budget, "budget_for_blocks", lambda budget, host_bytes: 10**9)
    refused(capsys, 5, "more than the budget of 10.0 MB", chain.path, "--memory-budget", "10MB")


def test_wrong_requests_are_explained(chain: Chain, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def given(arrays: dict[str, np.ndarray]) -> Path:
        save_file(arrays, tmp_path / "in.safetensors")
        return tmp_path / "in.safetensors"

    bundle, full = chain.path, ("--variant", "full")
    tokens = chain.inputs()["tokens"]
    refused(capsys, 2, "missing ['tokens'], unknown ['x']", bundle, *full, "--inputs", given({"x": tokens}))
    refused(
        capsys,
        2,
        "must be float32[3, 16], got float32[2, 16]",
        bundle,
        *full,
        "--inputs",
        given({"tokens": tokens[:2]}),
    )
    refused(capsys, 2, "got float64", bundle, *full, "--inputs", given({"tokens": tokens.astype(np.float64)}))
    refused(capsys, 2, "choose one with --variant", bundle, "--inputs", given({"tokens": tokens}))
    refused(capsys, 2, "does not exist", bundle, *full, "--inputs", tmp_path / "none")
    (tmp_path / "text").write_text("no tensors")
    refused(capsys, 2, "cannot be read as safetensors", bundle, *full, "--inputs", tmp_path / "text")
    refused(capsys, 2, "'other'; there are: net", bundle, "--component", "other")
    refused(capsys, 2, "only for: net (full), net (merged)", bundle, "--variant", "half")
    refused(capsys, 2, "no engine 'coreml'", bundle, "--engine", "coreml")
    refused(capsys, 2, "add --component and --variant", bundle, "--out", tmp_path / "out")
    refused(capsys, 2, "cannot be written", bundle, *full, "--out", tmp_path / "text" / "out")
    refused(capsys, 2, "--repeat", bundle, "--repeat", "0")
    refused(capsys, 2, "Missing argument 'BUNDLE'", "--json")


def test_an_interrupt_has_its_own_code(
    chain: Chain, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Loader, "run", interrupt)
    refused(capsys, 130, "interrupted", chain.path)


def test_differences_are_those_of_the_definition() -> None:
    golden = np.array([1.0, -2.0, 4.0], np.float32)
    assert difference("y", golden.copy(), golden).psnr_db == float("inf")
    off = difference("y", golden + np.float32(0.5), golden)
    assert off.max_abs_error == 0.5 and off.psnr_db == pytest.approx(20 * np.log10(4 / 0.5)) and not off.passed
    nan = np.array([np.nan, 1.0], np.float32)
    assert difference("y", nan, nan).passed
    assert not difference("y", nan, np.ones(2, np.float32)).passed
    assert not difference("y", golden[:2], golden).passed
    whole = np.array([100000, 7])
    assert difference("i", whole, whole).passed and not difference("i", whole + 1, whole).passed
    assert not difference("b", np.array([True]), np.array([False])).passed
