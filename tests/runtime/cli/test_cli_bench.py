"""`tm-bench`: what it writes, says and answers, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.bench_bundles import chain_bundle
from tests.support.measured import report
from tm_export.runtime.cli import bench as cli_bench
from tm_export.runtime.cli.bench import main
from tm_export.runtime.measure.bundle_report import Measured
from tm_export.runtime.measure.latency_report import ResourceUse, read_report, report_json

QUICK = ["--runs", "2", "--warmup", "1", "--loads", "1", "--threads", "1"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles") / "chain"
    chain_bundle(root, blocks=2, width=32)
    return root


def saved(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    path = folder / "latency_report.json"
    path.write_bytes(report_json(report(**changes)))
    return path


def test_a_bundle_gives_a_report_a_trace_and_a_page(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([str(bundle), *QUICK, "-o", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"latency_report.json", "trace.json", "report.html"}
    made = read_report(tmp_path / "latency_report.json")
    assert made.variants() == (("net", "full"), ("net", "merged"))
    assert (made.warmup_runs, made.measured_runs) == (1, 2)
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    out, err = capfd.readouterr()
    assert "desktop figure, not a phone's" in out and "net/merged" in out
    assert f"wrote {tmp_path / 'trace.json'}" in out
    assert "measuring net/full (1 of 2)" in err


def test_a_bundle_and_a_phones_report_are_compared(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    phone = saved(tmp_path / "phone", kind="phone")
    out = tmp_path / "out"
    assert main([str(phone), str(bundle), "--variant", "full", *QUICK, "-o", str(out), "--json"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert [(row["name"], row["differences"][:1]) for row in answer["comparison"]] == [
        ("phone", []),
        ("chain", ["a desktop, not a phone"]),
    ]
    assert answer["comparison"][1]["ratio"] > 0
    assert "a desktop, not a phone" in (out / "comparison.html").read_text()
    assert (out / "chain" / "report.html").exists() and not (out / "phone").exists()


def test_reports_are_compared_by_file_or_by_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one, other = saved(tmp_path / "one" / "r"), saved(tmp_path / "two" / "r", runs=(22.0,))
    assert main([str(one), str(other.parent), "-o", str(tmp_path / "out"), "--json"]) == 0
    rows = json.loads(capfd.readouterr().out)["comparison"]
    assert [(row["name"], row["ratio"]) for row in rows] == [("r", 1.0), ("r-2", 2.0)]


def test_an_import_is_written_in_the_schema(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    record = {"benchmarkModel": {"name": "net"}, "metric": "avg_inference_latency(ms)", "actualValue": 5.0}
    source = tmp_path / "benchmark_results.json"
    source.write_text(json.dumps([record]))
    out = tmp_path / "out"
    wanted = ["--import", str(source), "--from", "executorch", "--device-kind", "phone", "--build", "release"]
    assert main([*wanted, "--device", "Acme A1", "-o", str(out)]) == 0
    made = read_report(out / "latency_report.json")
    assert (made.device.name, made.label) == ("Acme A1", "phone figure; imported from executorch")
    assert "5.00 ms (mean)" in capfd.readouterr().out

    two = [record, record | {"benchmarkModel": {"name": "other/../net"}}]
    source.write_text(json.dumps(two))
    assert main([*wanted, "-o", str(tmp_path / "many")]) == 0
    names = sorted(path.name for path in (tmp_path / "many").iterdir())
    assert len(names) == 3 and "comparison.html" in names and all(".." not in Path(name).parts for name in names)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "nothing to measure: name a bundle"),
        (["x", "--runs", "0"], 2, "'--runs': Input should be greater than or equal to 1"),
        (["x", "--memory-budget", "1.2"], 2, "--memory-budget: '1.2' is no size"),
        (["--import", "f.json"], 2, "belong together"),
        (["--from", "ort"], 2, "belong together"),
        (["x", "--import", "f.json", "--from", "ort"], 2, "--import takes one file"),
        (["--import", "f.json", "--from", "tflite"], 2, "'tflite' is not one of"),
        (["--import", "none.json", "--from", "ort"], 2, "none.json does not exist"),
        (["none"], 2, "none does not exist"),
        (["BUNDLE", "--component", "nett"], 2, "'nett'; there are: net"),
        (["BUNDLE", "--memory-budget", "900TB"], 2, "more than this machine's memory"),
        (["BUNDLE", "--engine", "coreml"], 3, "no engine 'coreml' runs target 'onnx'"),
        (["BUNDLE", "--memory-budget", "1kB"], 5, "the process holds"),
    ],
)
def test_what_is_wrong_is_said_with_its_exit_code(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(bundle) if argument == "BUNDLE" else argument for argument in arguments]) == code
    out, err = capfd.readouterr()
    assert message in " ".join(err.split()) and "tm-bench: error:" in err
    assert out == "" and not (tmp_path / "bench").exists()


def test_a_process_that_held_more_than_its_budget_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The report is written all the same: it shows when it was."""

    def measured(*args: object) -> Measured:
        use = ResourceUse(component="net", variant="full", peak_bytes=2 * 10**9)
        return Measured(report(memory_budget_bytes=10**9, resources=(use,)), ())

    monkeypatch.setattr("tm_export.runtime.measure.bundle_report.bench_bundle", measured)
    (tmp_path / "manifest.json").touch()
    arguments = [str(tmp_path), "--memory-budget", "1GB", "-o", str(tmp_path / "out"), "--json"]
    assert main(arguments) == 5
    out, err = capfd.readouterr()
    assert "net/full held 2.00 GB, more than the budget of 1.00 GB" in err
    assert json.loads(out)["exit_code"] == 5 and read_report(tmp_path / "out" / "latency_report.json")


def test_a_damaged_bundle_is_found_before_anything_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "chain"
    chain_bundle(root, blocks=2, width=32)
    weights = root / "01.weights"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    assert main([str(root), *QUICK, "-o", str(tmp_path / "out"), "--json"]) == 2
    out, err = capfd.readouterr()
    assert json.loads(out) == {"exit_code": 2, "error": json.loads(out)["error"]}
    assert "01.weights has SHA-256" in err and not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_written_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main([str(saved(tmp_path / "r")), "-o", str(tmp_path / "file")]) == 2
    assert "file" in capfd.readouterr().err


def test_an_interruption_and_a_defect_have_their_own_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = str(saved(tmp_path / "r"))

    def raising(error: BaseException) -> Any:
        def answer(request: object) -> Any:
            raise error

        return answer

    monkeypatch.setattr(cli_bench, "_answer", raising(KeyboardInterrupt()))
    assert main([path]) == 130
    monkeypatch.setattr(cli_bench, "_answer", raising(ZeroDivisionError("oh")))
    assert main([path]) == 1
    assert "a defect in tm-bench" in capfd.readouterr().err


def test_help_is_quick_and_shows_examples() -> None:
    code = (
        "import sys; from tm_export.runtime.cli.bench import main; code = main(['--help']); "
        "assert not {'torch', 'pydantic', 'numpy', 'onnxruntime'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for text in ("--memory-budget", "--import", "--from", "Examples", "Exit codes", "latency_report.json"):
        assert text in done.stdout
