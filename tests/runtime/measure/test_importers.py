"""Reports from elsewhere: each format's real structure, a profile really made, and files that are none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tm_export.runtime.measure.compare import NamedReport, compare
from tm_export.runtime.measure.importers import Stated, import_reports
from tm_export.runtime.measure.latency_report import LatencyReport, report_json
from tm_export.runtime.measure.reading import UnreadableFile
from tm_export.runtime.measure.report_terms import ImportFormat

NOTHING = Stated()
PHONE = Stated(device_kind="phone", build="release")


def imported(path: Path, source: ImportFormat, stated: Stated = NOTHING) -> tuple[LatencyReport, ...]:
    """The reports of a file; each of them must survive being written and read."""
    reports = import_reports(path, source, stated)
    for report in reports:
        assert LatencyReport.model_validate(json.loads(report_json(report))) == report
        assert report.label.endswith(f"imported from {source}")
    compare([NamedReport(str(number), report) for number, report in enumerate(reports)])
    return reports


# ExecuTorch's benchmark app


def metrics(values: dict[str, float], **changes: Any) -> list[dict[str, Any]]:
    shared = {
        "benchmarkModel": {"name": "denoiser", "backend": "xnnpack", "quantization": "q8"},
        "deviceInfo": {"device": "acme", "arch": "A-1", "os": "Android 16", "totalMem": 0, "availMem": 0},
        "targetValue": 0.0,
    }
    return [shared | {"metric": name, "actualValue": value} | changes for name, value in values.items()]


FORWARD = {
    "avg_inference_latency(ms)": 41.5,
    "trimmean_inference_latency(ms)": 40.25,
    "model_load_time(ms)": 130.0,
    "load_status": 0.0,
    "ram_pss_usage(mb)": 12.5,
}


def written(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_executorch_figures_become_a_report(tmp_path: Path) -> None:
    (report,) = imported(written(tmp_path / "r.json", metrics(FORWARD)), "executorch", PHONE)
    assert (report.model, report.precision, report.engine.backend) == ("denoiser", "q8", "xnnpack")
    assert (report.device.name, report.device.os, report.device.os_version) == ("acme A-1", "Android", "16")
    assert report.device.memory_bytes is None  # 0 is not known, not none
    assert report.label == "phone figure; imported from executorch"
    run, load = report.find("run", "denoiser"), report.find("load", "denoiser")
    assert run is not None and (run.statistics.mean, run.statistics.p50, run.samples_ms) == (41.5, None, ())
    assert load is not None and load.statistics.mean == 130.0
    use = report.resource_use("denoiser", None)
    assert use is not None and (use.measure, use.peak_bytes) == ("pss_growth", 12_800 * 1024)
    assert [(f.name, f.value, f.unit) for f in report.figures] == [("trimmean_inference_latency(ms)", 40.25, "ms")]


def test_an_llms_own_figures_do_not_hide_those_of_its_method(tmp_path: Path) -> None:
    llm = FORWARD | {"llm_model_load_time(ms)": 900.0, "generate_time(ms)": 5000.0, "token_per_sec": 11.0}
    (report,) = imported(written(tmp_path / "r.json", metrics(llm)), "executorch")
    run = report.find("run", "denoiser")
    assert run is not None and run.statistics.mean == 41.5
    assert {figure.name: figure.value for figure in report.figures} == {
        "trimmean_inference_latency(ms)": 40.25,
        "llm_model_load_time(ms)": 900.0,
        "generate_time(ms)": 5000.0,
        "token_per_sec": 11.0,
    }


def test_each_model_of_a_file_is_a_report_and_emulators_show_themselves(tmp_path: Path) -> None:
    emulator = {"device": "google", "arch": "sdk_gphone64_x86_64", "os": "Android 16"}
    records = [*metrics(FORWARD), *metrics(FORWARD, deviceInfo=emulator)]
    one, other = imported(written(tmp_path / "r.json", records), "executorch", PHONE)
    assert (one.device.kind, other.device.kind) == ("phone", "emulator")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "is empty"),
        ("{", "not valid JSON"),
        ([], "lists no figures"),
        ({"a": 1}, r"the whole file: Input should be a valid list"),
        ([{"metric": "x"}], r"0.benchmarkModel: Field required"),
        (metrics({"load_status": 32.0}), r"'denoiser' did not load on the device \(load_status 32\)"),
        (metrics({"load_status": 0.0} | {"other": 1.0}), "has none of avg_inference_latency"),
        (metrics({"avg_inference_latency(ms)": -1.0}), "as -1; a time cannot be negative"),
        (metrics(FORWARD) * 2, r"'avg_inference_latency\(ms\)' of 'denoiser' twice"),
    ],
)
def test_executorch_files_that_are_wrong_are_refused(tmp_path: Path, value: Any, message: str) -> None:
    refused(written(tmp_path / "r.json", value), "executorch", message)


def refused(path: Path, source: ImportFormat, message: str, stated: Stated = NOTHING) -> None:
    with pytest.raises(UnreadableFile, match=message) as caught:
        import_reports(path, source, stated)
    assert str(path) in str(caught.value)


# ONNX Runtime's profile


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile that ONNX Runtime itself wrote of five runs."""
    folder = tmp_path_factory.mktemp("profile")
    weight = onnx.numpy_helper.from_array(np.eye(64, dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "mm"), helper.make_node("Sin", ["y"], ["z"], "sin")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [64, 64])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [64, 64])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for _ in range(5):
        session.run(None, {"x": np.ones((64, 64), np.float32)})
    return Path(session.end_profiling())


def test_a_real_profile_becomes_a_report(profile: Path) -> None:
    (report,) = imported(profile, "ort", Stated(device="my laptop", device_kind="desktop", warmup_runs=2))
    events = json.loads(profile.read_text())
    runs = [event for event in events if event["name"] == "model_run"]
    run = report.find("run", "session")
    assert run is not None and run.samples_ms == tuple(event["dur"] / 1000 for event in runs[2:])
    assert (report.warmup_runs, report.measured_runs) == (2, 3)
    assert report.device.name == "my laptop" and report.engine.backend == "CPUExecutionProvider"
    assert "profiler on" in report.label
    operators = {series.operator: series for series in report.series if series.operator}
    assert set(operators) == {"MatMul", "Sin"}
    kernels = [e["dur"] / 1000 for e in events if e["name"] == "sin_kernel_time"]
    assert operators["Sin"].samples_ms == tuple(kernels[2:])
    load = report.find("load", "session")
    stages = ("model_loading_array", "session_initialization")
    assert load is not None
    assert load.samples_ms == (sum(event["dur"] for event in events if event["name"] in stages) / 1000,)


def test_kernels_never_take_longer_than_their_run(profile: Path) -> None:
    (report,) = imported(profile, "ort")
    run = report.find("run", "session")
    assert run is not None
    kernels = [series.samples_ms for series in report.series if series.operator]
    for number, whole in enumerate(run.samples_ms):
        assert sum(samples[number] for samples in kernels) <= whole


def test_profiles_that_are_wrong_are_refused(profile: Path, tmp_path: Path) -> None:
    cut = written(tmp_path / "cut.json", profile.read_text()[:-40])
    refused(cut, "ort", r"not valid JSON .*end_profiling was called")
    refused(profile, "ort", "has 5 runs, all of them left out", Stated(warmup_runs=5))
    events = json.loads(profile.read_text())
    no_runs = [event for event in events if event["name"] != "model_run"]
    refused(written(tmp_path / "none.json", no_runs), "ort", "no event 'model_run'")
    refused(written(tmp_path / "twice.json", events * 2), "ort", "runs that overlap")
    events[0]["dur"] = -1
    refused(written(tmp_path / "negative.json", events), "ort", "0.dur: Input should be greater than or equal to 0")
    refused(written(tmp_path / "trace.json", {"traceEvents": []}), "ort", "is not a profile of ONNX Runtime")


# xcodebuild's log

LOG = """\
Command line invocation:
    xcodebuild test -scheme Demo -configuration Release -destination "platform=iOS,name=Anna's iPhone 17 Pro,OS=26.1"
Test Case '-[DemoTests.BlockTests testLoadDenoiser]' started.
/src/T.swift:9: Test Case '-[DemoTests.BlockTests testLoadDenoiser]' measured [Clock Monotonic Time, s] \
average: 0.120, relative standard deviation: 8.165%, values: [0.110000, 0.120000, 0.130000], baselineName: ""
/src/T.swift:9: Test Case '-[DemoTests.BlockTests testRunDenoiser]' measured [Memory Peak Physical, kB] \
average: 2048.000, relative standard deviation: 0.000%, values: [2048.000000, 2048.000000]
/src/T.swift:9: Test Case '-[DemoTests.BlockTests testRunDenoiser]' measured [CPU Cycles, kC] average: 560.000, \
relative standard deviation: 1.000%, values: [550.000000, 570.000000], performanceMetricID:com.apple
/src/T.swift:9: Test Case '-[DemoTests.BlockTests testRunDenoiser]' measured [Clock Monotonic Time, s] average: 0.004, \
relative standard deviation: 10.0%, values: [0.004414, 0.003914], performanceMetricID:com.apple
Test Case '-[DemoTests.BlockTests testRunDenoiser]' passed (0.307 seconds).
"""


def test_measured_lines_become_series(tmp_path: Path) -> None:
    (report,) = imported(written(tmp_path / "demo.log", LOG), "xcodebuild")
    assert (report.device.kind, report.device.os, report.device.os_version) == ("phone", "iOS", "26.1")
    assert report.label == "phone figure; imported from xcodebuild"
    load = report.find("load", "DemoTests.BlockTests.testLoadDenoiser")
    run = report.find("run", "DemoTests.BlockTests.testRunDenoiser")
    assert load is not None and load.samples_ms == pytest.approx((110.0, 120.0, 130.0))
    assert run is not None and run.samples_ms == pytest.approx((4.414, 3.914))
    use = report.resource_use("DemoTests.BlockTests.testRunDenoiser", None)
    assert use is not None and (use.measure, use.peak_bytes) == ("footprint", 2_048_000)
    assert [(f.name, f.value, f.unit) for f in report.figures] == [("CPU Cycles, mean", 560.0, "kC")]


@pytest.mark.parametrize(
    ("old", "new", "kind", "build"),
    [
        ("platform=iOS,", "platform=iOS Simulator,", "emulator", "release"),
        ("iPhone 17 Pro", "iPad", "tablet", "release"),
        ("platform=iOS,name=Anna's iPhone 17 Pro", "platform=macOS", "desktop", "release"),
        ("Release", "Debug", "phone", "debug"),
        ('"platform=iOS,name=Anna\'s iPhone 17 Pro,OS=26.1"', "'platform=iOS,name=Our iPad'", "tablet", "release"),
        (
            '-configuration Release -destination "platform=iOS,name=Anna\'s iPhone 17 Pro,OS=26.1"',
            "-destination platform=iOS\\ Simulator,name=iPad\\ 9 -configuration Debug",
            "emulator",
            "debug",
        ),
        (LOG[: LOG.index("Test Case")], "", "unknown", "unknown"),
    ],
)
def test_the_log_says_what_the_device_and_the_build_were(
    tmp_path: Path, old: str, new: str, kind: str, build: str
) -> None:
    (report,) = imported(written(tmp_path / "demo.log", LOG.replace(old, new)), "xcodebuild")
    assert (report.device.kind, report.conditions.build) == (kind, build)


def test_older_logs_name_the_clock_otherwise(tmp_path: Path) -> None:
    older = LOG.replace("Clock Monotonic Time, s", "Time, seconds")
    (report,) = imported(written(tmp_path / "demo.log", older), "xcodebuild")
    assert len(report.series) == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (LOG, "", "is empty"),
        (LOG, "Build succeeded\n", "no line with a measured clock time"),
        ("values: [0.110000, 0.120000, 0.130000], ", "", "is damaged in line 4"),
        ("0.110000", "0.911000", r"states the average 0.12, its values have 0.387000: the line is damaged"),
        ("0.110000", "zero", "values that are no numbers"),
        ("0.110000", "inf", "values that are not finite"),
        ("Time, s]", "Time, h]", "is in 'h'; known are s, seconds, ms"),
        ("testLoadDenoiser", "testRunDenoiser", "has the clock time of .*testRunDenoiser twice"),
    ],
)
def test_logs_that_are_wrong_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in LOG
    refused(written(tmp_path / "demo.log", LOG.replace(old, new)), "xcodebuild", message)


# ai-hub's perf.yaml

PERF = """\
supported_devices:
- Samsung Galaxy S25
precisions:
  float:
    components:
      Encoder:
        universal_assets:
          onnx: {model_id: mabc}
        performance_metrics:
          Samsung Galaxy S25:
            onnx:
              job_id: jabc
              job_status: Passed
              inference_time_milliseconds: 112.5
              estimated_peak_memory_range_mb: {min: 33, max: 1665}
              primary_compute_unit: NPU
              layer_counts: {total: 481, npu: 480, cpu: 1}
              tool_versions: {qairt: 2.42.0.2, onnx_runtime: 1.24.1}
            qnn_dlc:
              job_id: jdef
              job_status: Failed
          QCS8550 (Proxy):
            onnx: {job_status: Passed, inference_time_milliseconds: 198.5}
      Decoder:
        performance_metrics:
          Samsung Galaxy S25:
            onnx: {job_status: Passed, inference_time_milliseconds: 3.5, primary_compute_unit: NPU}
"""


def test_perf_yaml_becomes_a_report_for_each_device_and_runtime(tmp_path: Path) -> None:
    folder = tmp_path / "sam2"
    folder.mkdir()
    phone, proxy = imported(written(folder / "perf.yaml", PERF), "ai-hub", Stated(build="release"))
    assert (phone.model, phone.precision, phone.device.name) == ("sam2", "float", "Samsung Galaxy S25")
    assert (phone.device.kind, proxy.device.kind) == ("phone", "unknown")
    assert (phone.engine.name, phone.engine.version, phone.engine.backend) == ("onnx", "1.24.1", "NPU")
    times = {series.component: series.statistics.estimate for series in phone.series}
    assert times == {"Encoder": 112.5, "Decoder": 3.5}
    use = phone.resource_use("Encoder", None)
    assert use is not None and (use.measure, use.peak_bytes) == ("estimate", 1665 * 2**20)
    assert {figure.name: figure.value for figure in phone.figures}["layers, npu"] == 480


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "is empty"),
        ("precisions: [", "is not valid YAML"),
        ("models:\n- name: sam2\n  performance_metrics: []\n", "precisions: Field required"),
        ("just text", "is not a perf.yaml of ai-hub-models"),
        ("precisions: {}", "has no inference_time_milliseconds"),
        (PERF.replace("112.5", "fast"), r"inference_time_milliseconds: Input should be a valid number"),
        (PERF.replace("112.5", "-1"), "greater than or equal to 0"),
        (PERF.replace("112.5", ".nan"), "finite number"),
        (PERF.replace("Encoder", '""'), "figures that no report can hold"),
        ("a: !!python/object/apply:os.system [ls]", "is not valid YAML"),
        ("[" * 20_000, "is not valid YAML"),
    ],
)
def test_perf_files_that_are_wrong_are_refused(tmp_path: Path, value: str, message: str) -> None:
    refused(written(tmp_path / "perf.yaml", value), "ai-hub", message)


@pytest.mark.parametrize("source", ["executorch", "ort", "xcodebuild", "ai-hub"])
def test_a_missing_file_a_folder_and_bytes_are_refused(tmp_path: Path, source: ImportFormat) -> None:
    refused(tmp_path / "none", source, "does not exist; name a")
    refused(tmp_path, source, "cannot be read")
    (tmp_path / "bytes").write_bytes(bytes(range(128, 256)))
    refused(tmp_path / "bytes", source, "is not UTF-8 text")
