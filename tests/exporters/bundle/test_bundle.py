import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from tm_export.exporters.bundle.bundle import Bundle, bundle_path, write_bundle
from tm_export.exporters.bundle.compiled import Compiled
from tm_export.exporters.bundle.staging import Staging
from tm_export.exporters.errors import BudgetExceeded, ParityFailed, UsageError
from tm_export.exporters.record.records import ExportReport, ParityRecord, PlacementRecord, StageRecord
from tm_export.exporters.source.module_source import source_of_module
from tm_export.runtime.manifest import (
    Block,
    BundleError,
    Call,
    Component,
    ComponentVariant,
    Golden,
    TensorSpec,
    Variant,
    verify_files,
)

SOURCE = source_of_module(nn.Identity(), torch.ones(2), "tiny")


def compiled(passed: bool = True, regions: int = 1, variants: tuple[str, ...] = ("full",)) -> Compiled:
    spec = TensorSpec(name="x", dtype="float32", shape=(2,))
    output = TensorSpec(name="output_0", dtype="float32", shape=(2,))
    made = tuple(
        Variant(
            name=name,
            artifact=f"model/00_{name}.onnx",
            function="main_graph",
            inputs=(spec,),
            outputs=(output,),
            activation_bytes=16,
        )
        for name in variants
    )
    call = Call(block="00", reads=("x",), writes=("output_0",))
    ways = tuple(ComponentVariant(name=name, inputs=(spec,), outputs=(output,), calls=(call,)) for name in variants)
    files = ("model/00_full.onnx", "model/00_merged.onnx")
    block = Block(name="00", variants=made, weight_bytes=8, files=files)
    parity = ParityRecord(
        component="model",
        block="00",
        variant="full",
        inputs="example",
        engine="onnxruntime",
        output="output_0",
        max_abs_error=0.25 if not passed else 1e-7,
        relative_error=0.125 if not passed else 1e-7,
        psnr_db=18.0 if not passed else 140.0,
        decisions=8,
        decisions_agreeing=8,
        decisions_tied=0,
        passed=passed,
        gate="relative error <= 1e-4",
    )
    return Compiled(
        components=(Component(name="model", blocks=(block,), variants=ways),),
        golden=(
            Golden(
                component="model",
                variant="full",
                inputs="golden/model_full_inputs.safetensors",
                outputs="golden/model_full_outputs.safetensors",
            ),
        ),
        report=ExportReport(
            model="tiny",
            target="onnx",
            options={"seed": 0},
            merges=(),
            parity=(parity,),
            placement=(
                PlacementRecord(
                    component="model",
                    block="00",
                    variant="full",
                    regions=regions,
                    operators={"Add": 1, "TopK": 1},
                    outside={"TopK": 1},
                ),
            ),
            stages=(
                StageRecord(component="model", variant="full", stage="emit", seconds=1.0, peak_rss_bytes=300),
                StageRecord(component="model", variant="full", stage="verify", seconds=1.0, peak_rss_bytes=200),
            ),
            total_seconds=2.0,
            total_bytes=9,
        ),
    )


def builder(content: bytes = b"artifact", **choices: object) -> Callable[[Staging], Compiled]:
    def build(staging: Staging) -> Compiled:
        folder = staging.bundle
        result = compiled(**choices)  # type: ignore[arg-type]
        for name in ("model/00_full.onnx", "model/00_merged.onnx"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        (folder / "golden").mkdir(exist_ok=True)
        for record in result.golden:
            (folder / record.inputs).write_bytes(b"in")
            (folder / record.outputs).write_bytes(b"out")
        return result

    return build


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_bundle_holds_artifacts_golden_reports_and_a_manifest_that_proves_them(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, SOURCE, "onnx", builder())
    assert bundle.path == tmp_path / "tiny-onnx"
    assert sorted(contents(bundle.path)) == [
        "golden/model_full_inputs.safetensors",
        "golden/model_full_outputs.safetensors",
        "manifest.json",
        "manifest.sha256",
        "model/00_full.onnx",
        "model/00_merged.onnx",
        "reports/export.json",
        "reports/index.html",
        "reports/merges.json",
        "reports/parity.json",
        "reports/placement.json",
    ]
    assert Bundle.read(bundle.path) == bundle
    assert (bundle.manifest.model, bundle.manifest.target, bundle.manifest.weights) == (
        "tiny",
        "onnx",
        "module",
    )
    assert bundle.manifest.tool_versions["torch"] == torch.__version__
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-onnx"]


def test_manifest_notices_a_changed_artifact_and_not_a_changed_report(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, SOURCE, "onnx", builder())
    (bundle.path / "reports/export.json").write_text("{}")
    verify_files(bundle.path, bundle.manifest)
    (bundle.path / "model/00_full.onnx").write_bytes(b"Artifact")
    with pytest.raises(BundleError, match="00_full"):
        Bundle.read(bundle.path)


def test_reports_read_back_equal_and_say_peak_memory(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, SOURCE, "onnx", builder())
    assert bundle.report() == compiled().report
    parity = json.loads((bundle.path / "reports/parity.json").read_bytes())
    assert parity[0]["psnr_db"] == 140.0
    assert json.loads((bundle.path / "reports/export.json").read_bytes())["peak_rss_bytes"] == 300


def test_bundle_is_readable_by_whom_the_umask_allows(tmp_path: Path) -> None:
    (tmp_path / "beside").mkdir()
    bundle = write_bundle(tmp_path, SOURCE, "onnx", builder())
    assert bundle.path.stat().st_mode == (tmp_path / "beside").stat().st_mode


def test_same_input_gives_same_bytes_but_for_times(tmp_path: Path) -> None:
    first = contents(write_bundle(tmp_path / "a", SOURCE, "onnx", builder()).path)
    second = contents(write_bundle(tmp_path / "b", SOURCE, "onnx", builder()).path)
    varying = {"reports/export.json", "reports/index.html"}
    assert {name: first[name] for name in first.keys() - varying} == {
        name: second[name] for name in second.keys() - varying
    }


def test_own_bundle_is_replaced_whole(tmp_path: Path) -> None:
    old = write_bundle(tmp_path, SOURCE, "onnx", builder(b"old")).path
    (old / "model" / "stale.bin").write_bytes(b"of an earlier version")
    write_bundle(tmp_path, SOURCE, "onnx", builder(b"new"))
    assert "model/stale.bin" not in contents(old)
    assert contents(old)["model/00_full.onnx"] == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-onnx"]


def test_link_to_a_bundle_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    real = write_bundle(tmp_path / "real", SOURCE, "onnx", builder(b"old")).path
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "tiny-onnx").symlink_to(real)
    write_bundle(tmp_path / "out", SOURCE, "onnx", builder(b"new"))
    assert (tmp_path / "out" / "tiny-onnx").is_symlink()
    assert contents(real)["model/00_full.onnx"] == b"new"


@pytest.mark.parametrize("manifest", [None, '{"name": "an extension of a browser"}', "[]", "no json"])
def test_foreign_folder_is_refused_and_kept_unless_forced(tmp_path: Path, manifest: str | None) -> None:
    place = bundle_path(tmp_path, "tiny", "onnx")
    place.mkdir()
    (place / "thesis.txt").write_text("years of work")
    if manifest is not None:
        (place / "manifest.json").write_text(manifest)
    before = contents(place)

    def never(staging: Staging) -> Compiled:
        raise AssertionError("work was done for nothing")

    with pytest.raises(UsageError, match=r"is no tm-export bundle: .* --force"):
        write_bundle(tmp_path, SOURCE, "onnx", never)
    assert contents(place) == before
    write_bundle(tmp_path, SOURCE, "onnx", builder(), force=True)
    assert "thesis.txt" not in contents(place)


def test_empty_folder_is_filled(tmp_path: Path) -> None:
    bundle_path(tmp_path, "tiny", "onnx").mkdir()
    assert write_bundle(tmp_path, SOURCE, "onnx", builder()).path.is_dir()


def test_file_in_place_of_the_bundle_is_refused_even_if_forced(tmp_path: Path) -> None:
    place = bundle_path(tmp_path, "tiny", "onnx")
    place.write_text("a file")
    with pytest.raises(UsageError, match="is a file"):
        write_bundle(tmp_path, SOURCE, "onnx", builder(), force=True)
    assert place.read_text() == "a file"


def test_file_in_place_of_the_output_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UsageError, match=r"is no folder .* choose another"):
        write_bundle(tmp_path / "out", SOURCE, "onnx", builder())


def failing(error: BaseException) -> Callable[[Staging], Compiled]:
    def build(staging: Staging) -> Compiled:
        builder()(staging)
        raise error

    return build


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a defect"), SystemExit(1)])
@pytest.mark.parametrize("existing", [False, True])
def test_failed_build_leaves_everything_as_it_was(tmp_path: Path, error: BaseException, existing: bool) -> None:
    if existing:
        write_bundle(tmp_path, SOURCE, "onnx", builder(b"old"))
    before = contents(tmp_path)
    with pytest.raises(type(error)):
        write_bundle(tmp_path, SOURCE, "onnx", failing(error))
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-onnx"] * existing


def test_interrupt_between_the_two_renames_puts_the_old_bundle_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write_bundle(tmp_path, SOURCE, "onnx", builder(b"old")).path
    before = contents(tmp_path)
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(tmp_path, SOURCE, "onnx", builder(b"new"))
    assert contents(tmp_path) == before
    assert list(tmp_path.iterdir()) == [place]


def write_to_a_full_disk(staging: Staging) -> Compiled:
    builder()(staging)
    with Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"weights")
    raise AssertionError("the kernel says ENOSPC")


def fail_as_safetensors_does(staging: Staging) -> Compiled:
    try:
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    except RuntimeError as error:
        raise ValueError("conversion failed") from error


@pytest.mark.parametrize("build", [write_to_a_full_disk, fail_as_safetensors_does])
def test_full_disk_is_told_and_leaves_nothing(tmp_path: Path, build: Callable[[Staging], Compiled]) -> None:
    with pytest.raises(UsageError, match=r"no space is left for .*tiny-onnx: make room"):
        write_bundle(tmp_path, SOURCE, "onnx", build)
    assert list(tmp_path.iterdir()) == []


def test_disk_that_fills_up_with_the_manifest_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if self.name == "manifest.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match="no space is left"):
        write_bundle(tmp_path, SOURCE, "onnx", builder())
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that this process may not write to; a superuser becomes an ordinary one for the time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


@pytest.mark.parametrize("below", [".", "new/folder"])
def test_read_only_folder_is_told_before_any_work(read_only: Path, below: str) -> None:
    def never(staging: Staging) -> Compiled:
        raise AssertionError("work was done for nothing")

    with pytest.raises(UsageError, match=r"tiny-onnx cannot be written \(Permission denied\): make"):
        write_bundle(read_only / below, SOURCE, "onnx", never)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no file system here that takes no folders")
def test_a_file_system_that_takes_no_folders_is_told() -> None:
    with pytest.raises(UsageError, match=r"/proc/x/tiny-onnx cannot be written \(No such file or directory\): make"):
        write_bundle(Path("/proc/x"), SOURCE, "onnx", lambda _: pytest.fail("work was done for nothing"))


def test_read_only_file_system_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only_system(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", read_only_system)
    with pytest.raises(UsageError, match="Read-only file system"):
        write_bundle(tmp_path, SOURCE, "onnx", builder())


def test_other_system_errors_are_not_taken_for_the_users(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_bundle(tmp_path, SOURCE, "onnx", failing(FileNotFoundError(errno.ENOENT, "a defect")))


def test_failed_parity_names_the_output_and_keeps_only_the_reports(tmp_path: Path) -> None:
    write_bundle(tmp_path, SOURCE, "onnx", builder(b"old"))
    before = contents(tmp_path)
    with pytest.raises(ParityFailed) as caught:
        write_bundle(tmp_path, SOURCE, "onnx", builder(passed=False))
    for part in ("model/00/full", "onnxruntime", "'output_0'", "0.25", "18.0 dB", "8 of 8", "<= 1e-4"):
        assert part in str(caught.value)
    failed = tmp_path / "tiny-onnx.failed"
    assert str(failed) in str(caught.value)
    assert json.loads((failed / "parity.json").read_bytes())[0]["passed"] is False
    assert not (failed / "manifest.json").exists()
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"tiny-onnx.failed"}


def test_too_many_regions_are_a_failed_budget(tmp_path: Path) -> None:
    write_bundle(tmp_path, SOURCE, "onnx", builder(regions=3), max_regions=3)
    with pytest.raises(BudgetExceeded, match=r"model/00/full is cut into 4 regions.* allows 3.*TopK"):
        write_bundle(tmp_path, SOURCE, "onnx", builder(regions=4), max_regions=3)
    assert (tmp_path / "tiny-onnx.failed" / "placement.json").is_file()


def test_success_removes_the_reports_of_an_earlier_failure(tmp_path: Path) -> None:
    with pytest.raises(ParityFailed):
        write_bundle(tmp_path, SOURCE, "onnx", builder(passed=False))
    write_bundle(tmp_path, SOURCE, "onnx", builder())
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-onnx"]


def test_open_asks_for_a_choice_between_several(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, SOURCE, "onnx", builder(variants=("full", "merged")))
    with pytest.raises(BundleError, match=r"more than one variant.*choose one of full, merged"):
        bundle.open()
    with pytest.raises(BundleError, match=r"no component of .* is called 'decoder': choose one of model"):
        bundle.open("decoder")
    with pytest.raises(BundleError, match=r"no variant of .* is called 'half'"):
        bundle.open(variant="half")


def test_open_runs_the_only_variant(tmp_path: Path) -> None:
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])
    y = onnx.helper.make_tensor_value_info("output_0", onnx.TensorProto.FLOAT, [2])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["output_0"])], "main_graph", [x], [y])
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 20)])
    bundle = write_bundle(tmp_path, SOURCE, "onnx", builder(model.SerializeToString()))
    with bundle.open() as session:
        outputs = session.run({"x": np.array([1, -2], dtype=np.float32)})
    np.testing.assert_array_equal(outputs["output_0"], [-1, 2])
