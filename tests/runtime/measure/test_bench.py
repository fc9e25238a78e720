"""Measuring a real bundle: what is recorded agrees with itself, with the bundle, and with what was asked for."""

import gc
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from executorch.extension.pybindings import portable_lib
from safetensors.numpy import save_file

from tests.support.bench_bundles import chain_bundle
from tests.support.waiting import wait_until
from tm_export.runtime.engines import EngineError, choose_engine
from tm_export.runtime.heap import give_back_free_memory
from tm_export.runtime.loading.loader import Loader
from tm_export.runtime.loading.memory import sample_memory
from tm_export.runtime.loading.policy import BudgetTooSmall, least_budget
from tm_export.runtime.loading.uses import uses_of
from tm_export.runtime.manifest import BundleError, FileEntry, Golden, Manifest, file_sha256
from tm_export.runtime.measure.bench import record_variant
from tm_export.runtime.measure.bundle_report import bench_bundle, variants_to_measure
from tm_export.runtime.measure.chrome_trace import chrome_trace
from tm_export.runtime.measure.inputs import inputs_for
from tm_export.runtime.measure.isolated import isolated
from tm_export.runtime.measure.options import BenchOptions
from tm_export.runtime.measure.recording import Recording
from tm_export.runtime.measure.series import series_of
from tm_export.runtime.measure.threads import threads_used

OPTIONS = BenchOptions(runs=4, warmup=2, loads=2, threads=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    root = tmp_path_factory.mktemp("chain")
    return root, chain_bundle(root, blocks=4, width=256, tokens=64)


@pytest.fixture(scope="module")
def recorded(bundle: tuple[Path, Manifest]) -> Recording:
    return record_variant(*bundle, "net", "full", OPTIONS)


def test_phases_are_what_was_asked_for_and_do_not_overlap(recorded: Recording) -> None:
    counts = {kind: [p.number for p in recorded.phases if p.kind == kind] for kind in ("warm_up", "run", "warm_load")}
    assert counts == {"warm_up": [1, 2], "run": [1, 2, 3, 4], "warm_load": [1, 2]}
    assert [p.kind for p in recorded.phases[-2:]] == ["cold_load" if recorded.page_cache == "dropped" else "load"] * 2
    ends = 0
    for phase in recorded.phases:
        assert ends <= phase.start_ns <= phase.end_ns
        ends = phase.end_ns


def test_every_block_has_every_sample(recorded: Recording) -> None:
    cold = "cold_load" if recorded.page_cache == "dropped" else "load"
    counts = {(s.quantity, s.block): len(s.samples_ms) for s in series_of(recorded)}
    blocks = [None, "block_0", "block_1", "block_2", "block_3"]
    wanted = (("run", 4), ("warm_load", 2), (cold, 2))
    expected = {(quantity, block): count for quantity, count in wanted for block in blocks}
    assert counts == expected  # and no streamed load: without a budget every block stays open


def test_a_run_takes_at_least_as_long_as_its_blocks(recorded: Recording) -> None:
    for phase in (phase for phase in recorded.phases if phase.kind in ("warm_up", "run")):
        inside = [
            event
            for event in recorded.events
            if event.kind == "run" and phase.start_ns <= event.start_ns and event.end_ns <= phase.end_ns
        ]
        assert [event.block for event in inside] == ["block_0", "block_1", "block_2", "block_3"]
        assert sum(event.end_ns - event.start_ns for event in inside) <= phase.end_ns - phase.start_ns


def test_times_agree_with_a_stopwatch_around_the_loader(bundle: tuple[Path, Manifest]) -> None:
    """The median run that is reported is that of the same loop, timed from outside."""
    root, manifest = bundle
    inputs = inputs_for(root, manifest, "net", "full").arrays
    seconds = []
    with Loader(root, manifest, choose_engine("onnx", threads=1)) as loader:
        loader.schedule([("net", "full")] * 31)
        for _ in range(30):
            start = time.perf_counter()
            loader.run("net", "full", inputs)
            seconds.append(time.perf_counter() - start)
    recorded = record_variant(root, manifest, "net", "full", BenchOptions(runs=28, warmup=2, loads=0, threads=1))
    run = next(series for series in series_of(recorded) if series.is_end_to_end and series.quantity == "run")
    assert run.statistics.p50 is not None
    ratio = run.statistics.p50 / (1e3 * statistics.median(seconds[2:]))
    assert 1 / 20 < ratio < 20  # the unit is right; other work may slow one of them


def test_bytes_are_those_of_the_files(bundle: tuple[Path, Manifest], recorded: Recording) -> None:
    assert recorded.bytes_opened == sum(entry.bytes for entry in bundle[1].files)
    if recorded.page_cache == "dropped":
        assert recorded.bytes_read is not None
        assert recorded.bytes_opened <= recorded.bytes_read <= recorded.bytes_opened + 64 * 4096


def test_memory_covers_the_measurement_and_its_peak_the_samples(recorded: Recording) -> None:
    times = [sample.time_ns for sample in recorded.memory]
    assert times[0] <= recorded.phases[0].start_ns and times[-1] >= recorded.phases[-1].end_ns
    last_run = max(phase.end_ns for phase in recorded.phases if phase.kind == "run")
    during = [sample.rss_bytes for sample in recorded.memory if sample.time_ns <= last_run]
    assert recorded.peak_rss_bytes >= max(during) >= recorded.baseline_rss_bytes > 10**6


def test_a_budget_makes_blocks_stream_and_they_are_counted(tmp_path: Path) -> None:
    manifest = chain_bundle(tmp_path, blocks=3, width=1024, tokens=8)
    gc.collect()
    give_back_free_memory()  # as the loader does: what it gives back would else count as room
    held = sample_memory().rss_bytes
    block = least_budget(uses_of(manifest, choose_engine("onnx"), [("net", "full")]))
    assert block > 12 * 10**6  # so that what else happens in this process does not matter
    options = BenchOptions(runs=3, warmup=1, loads=0, memory_budget=held + block * 3 // 2, prefetch_depth=0)
    recorded = record_variant(tmp_path, manifest, "net", "full", options)
    streamed = {s.block: len(s.samples_ms) for s in series_of(recorded) if s.quantity == "streamed_load"}
    assert streamed == {f"block_{number}": 3 for number in range(3)}
    for budget, message in (
        (held + block // 2, r"block_0.*the least --memory-budget"),
        (10**6, "before it"),
    ):
        with pytest.raises(BudgetTooSmall, match=message):
            record_variant(tmp_path, manifest, "net", "full", BenchOptions(memory_budget=budget))


def test_closing_at_the_end_is_no_part_of_the_last_run(recorded: Recording) -> None:
    last = [phase for phase in recorded.phases if phase.kind == "run"][-1]
    assert not [e for e in recorded.events if e.kind == "close" and last.start_ns <= e.start_ns < last.end_ns]


def test_golden_inputs_are_taken_where_there_are_any(tmp_path: Path) -> None:
    manifest = chain_bundle(tmp_path, blocks=1, width=8)
    generated = inputs_for(tmp_path, manifest, "net", "full")
    assert generated.source == "generated"
    np.testing.assert_array_equal(generated.arrays["v0"], inputs_for(tmp_path, manifest, "net", "full").arrays["v0"])
    golden = np.full((4, 8), 0.5, np.float32)
    save_file({"v0": golden}, tmp_path / "in.safetensors")
    entry = FileEntry(
        path="in.safetensors",
        bytes=(tmp_path / "in.safetensors").stat().st_size,
        sha256=file_sha256(tmp_path / "in.safetensors"),
    )
    record = Golden(component="net", variant="full", inputs="in.safetensors", outputs="in.safetensors")
    with_golden = manifest.model_copy(update={"files": (*manifest.files, entry), "golden": (record,)})
    found = inputs_for(tmp_path, with_golden, "net", "full")
    assert found.source == "golden"
    np.testing.assert_array_equal(found.arrays["v0"], golden)
    assert inputs_for(tmp_path, with_golden, "net", "merged").source == "generated"
    (tmp_path / "in.safetensors").write_bytes(b"damaged")
    with pytest.raises(BundleError, match=r"in.safetensors cannot be read"):
        inputs_for(tmp_path, with_golden, "net", "full")


def test_a_report_names_what_was_run(bundle: tuple[Path, Manifest]) -> None:
    root, manifest = bundle
    told: list[str] = []
    measured = bench_bundle(root, None, "merged", BenchOptions(runs=2, warmup=0, loads=1, threads=1), told.append)
    report = measured.report
    assert told == [f"checking the files of {root}", "measuring net/merged (1 of 1)"]
    assert {artifact.path: artifact.sha256 for artifact in report.artifacts} == {
        entry.path: entry.sha256 for entry in manifest.files
    }
    assert report.manifest_sha256 == file_sha256(root / "manifest.json")
    assert (report.engine.name, report.engine.threads, report.conditions.inputs) == ("onnxruntime", 1, "generated")
    assert report.variants() == (("net", "merged"),)
    assert report.label.startswith("desktop figure, not a phone's")
    assert b'"traceEvents"' in chrome_trace(report, measured.recordings)


def test_threads_are_named_whether_asked_for_or_not() -> None:
    engine = choose_engine("onnx")
    assert threads_used(engine, 3) == 3
    assert threads_used(engine, None) == os.cpu_count()
    portable_lib._unsafe_reset_threadpool(2)
    assert threads_used(choose_engine("executorch"), None) == 2
    assert threads_used(choose_engine("coreml", "coreml-reference"), None) is None


def test_variants_are_chosen_by_name(bundle: tuple[Path, Manifest]) -> None:
    manifest = bundle[1]
    assert [ref.variant for ref in variants_to_measure(manifest, None, None)] == ["full", "merged"]
    assert [ref.variant for ref in variants_to_measure(manifest, "net", "merged")] == ["merged"]
    with pytest.raises(BundleError, match="'nett'; there are: net"):
        variants_to_measure(manifest, "nett", None)
    with pytest.raises(BundleError, match="'half'; there are: full, merged"):
        variants_to_measure(manifest, None, "half")


def test_a_process_that_dies_is_an_error_not_a_hang() -> None:
    with pytest.raises(EngineError, match="the measuring process died"):
        isolated(os._exit, 3)
    with pytest.raises(ZeroDivisionError):
        isolated(divmod, 1, 0)
    assert isolated(divmod, 7, 2) == (3, 1)


SCRIPT = """
import os, sys, time
from pathlib import Path
from tm_export.runtime.measure.isolated import isolated

def work(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    isolated(work, sys.argv[1])
"""


def test_a_process_whose_parent_is_killed_ends_too(tmp_path: Path) -> None:
    script, written = tmp_path / "script.py", tmp_path / "pid"
    script.write_text(SCRIPT)
    parent = subprocess.Popen([sys.executable, str(script), str(written)])
    wait_until(lambda: written.exists() and written.read_text() != "")
    parent.kill()
    parent.wait()
    child = psutil.Process(int(written.read_text())) if psutil.pid_exists(int(written.read_text())) else None
    wait_until(lambda: child is None or not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
