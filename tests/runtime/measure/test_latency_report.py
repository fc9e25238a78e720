"""The latency report: its schema, its statistics, its label, and files that are none."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support.measured import report
from tm_export.runtime.measure.latency_report import (
    Conditions,
    Device,
    EngineInfo,
    LatencyReport,
    Series,
    Statistics,
    read_report,
    report_json,
    report_schema,
)
from tm_export.runtime.measure.percentiles import percentile
from tm_export.runtime.measure.reading import UnreadableFile

ROOT = Path(__file__).resolve().parents[3]
# No subnormal numbers: a percentile between two of them is rounded to the next one, and none is a time.
samples = st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=50)


def test_the_committed_schema_is_the_one_of_the_code() -> None:
    committed = (ROOT / "runtime" / "measure" / "latency_report.schema.json").read_bytes()
    assert committed == report_schema(), "write report_schema() to runtime/measure/latency_report.schema.json"


@given(samples, st.floats(0, 100))
def test_percentiles_are_numpys(values: list[float], percent: float) -> None:
    expected = np.percentile(values, percent, method="linear")
    assert percentile(values, percent) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(samples)
def test_statistics_are_numpys_and_in_order(values: list[float]) -> None:
    found = Statistics.of(values)
    assert found.count == len(values)
    assert found.mean == pytest.approx(np.mean(values), rel=1e-12)
    assert (found.min, found.max) == (min(values), max(values))
    ordered = [found.min, found.p50, found.p90, found.p99, found.max]
    assert all(low <= high * (1 + 1e-12) for low, high in pairwise(ordered))


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 50)
    with pytest.raises(ValueError, match="percent is 101"):
        percentile([1.0], 101)


@given(st.lists(samples, min_size=1, max_size=3))
def test_a_report_reads_back_as_written(runs: list[list[float]]) -> None:
    series = tuple(Series.of("run", values, component=f"c{number}") for number, values in enumerate(runs))
    written = report(series=series)
    assert LatencyReport.model_validate(json.loads(report_json(written))) == written


def changed(tmp_path: Path, change: Any) -> Path:
    """A good report's file with something changed in it."""
    value = json.loads(report_json(report()))
    change(value)
    path = tmp_path / "latency_report.json"
    path.write_text(json.dumps(value))
    return path


def test_statistics_that_are_not_those_of_the_samples_are_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda value: value["series"][0]["statistics"].update(p90=1.0))
    with pytest.raises(UnreadableFile, match=r"p90 of run of net/full is stated as 1.0, its samples give 11.8"):
        read_report(path)


def test_a_label_that_hides_the_device_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda value: value.update(label="phone figure"))
    with pytest.raises(UnreadableFile, match=r"the label is 'phone figure'; .* it is .desktop figure, not a phone's"):
        read_report(path)


def test_a_label_left_out_is_computed(tmp_path: Path) -> None:
    assert read_report(changed(tmp_path, lambda value: value.pop("label"))) == report()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.update(schema_version=2), "schema version 2, this tool reads 1"),
        (lambda value: value.pop("device"), "device: Field required"),
        (lambda value: value.update(surprise=1), "surprise: Extra inputs are not permitted"),
        (lambda value: value.update(series=[]), "series: Tuple should have at least 1 item"),
        (lambda value: value["series"][0].update(samples_ms=[-1]), "greater than or equal to 0"),
        (lambda value: value["series"].append(value["series"][0]), "series given twice: run / net / full"),
        (
            lambda value: value["series"][0].update(samples_ms=[], statistics={"max": 3.0}),
            "has neither samples nor a p50, mean or estimate",
        ),
    ],
)
def test_a_report_that_is_wrong_is_refused_and_named(tmp_path: Path, change: Any, message: str) -> None:
    path = changed(tmp_path, change)
    with pytest.raises(UnreadableFile, match=message) as caught:
        read_report(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"{", "is not valid JSON"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"[]", "schema version None"),
        (b'{"schema_version": NaN}', "NaN is no JSON number"),
        (b'{"a": 1, "a": 2}', "key 'a' is given twice"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_that_is_no_report_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "latency_report.json"
    path.write_bytes(content)
    with pytest.raises(UnreadableFile, match=message):
        read_report(path)


def test_a_missing_report_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="does not exist"):
        read_report(tmp_path / "none.json")
    with pytest.raises(UnreadableFile, match="cannot be read"):
        read_report(tmp_path)


@pytest.mark.parametrize(
    ("made", "label"),
    [
        (report(kind="phone"), "phone figure"),
        (report(kind="tablet"), "tablet figure, not a phone's"),
        (report(kind="emulator"), "emulated, no real device's figure"),
        (report(kind="unknown", build="unknown"), "device unknown; build unknown"),
        (report(kind="phone", build="debug"), "phone figure; debug build"),
        (
            report(device=Device(name="d", kind="desktop", virtual_machine=True), source="ort"),
            "desktop figure, not a phone's; virtual machine; imported from ort",
        ),
        (
            report(kind="desktop", engine=EngineInfo(name="coreml-reference")),
            "desktop figure, not a phone's; reference engine, not Core ML's speed",
        ),
        (
            report(
                kind="phone",
                conditions=Conditions(
                    build="release",
                    thermal_state="critical",
                    power="low_power_mode",
                    profiler=True,
                    other_load_cores=1.5,
                ),
            ),
            "phone figure; profiler on; 1.5 cores busy with other work; low power mode; thermal state critical",
        ),
    ],
)
def test_the_label_says_what_the_figures_are(made: LatencyReport, label: str) -> None:
    assert made.label == label
    assert json.loads(report_json(made))["label"] == label


def test_a_series_without_any_figure_cannot_be_made() -> None:
    with pytest.raises(ValidationError, match="has neither samples"):
        Series(quantity="run", component="net", statistics=Statistics(count=3))
