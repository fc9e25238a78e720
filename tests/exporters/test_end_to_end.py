"""Both flagship cores, and a user's model, through the whole pipeline onto every target, verified on its engine."""

from pathlib import Path

import pytest
from programs import emit_one

from tm_export.exporters.compile import Compiled, compile_model
from tm_export.exporters.load_source import source_of
from tm_export.exporters.options import Effort, ExportOptions
from tm_export.exporters.progress import SilentProgress
from tm_export.exporters.staging import Staging
from tm_export.exporters.targets.base import find_target

TARGETS = ("coreml", "onnx", "executorch")


def export(model: str, target: str, folder: Path) -> Compiled:
    options = ExportOptions(precision="fp32" if target != "executorch" else None)
    staging = Staging(folder / "new", folder / "work")
    staging.bundle.mkdir()
    staging.scratch.mkdir()
    return compile_model(source_of(model, 0), find_target(target), options, Effort(), staging, SilentProgress())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("model", ["ondevice-sora-tiny", "tinychart-tiny"])
def test_cores_agree_with_pytorch_on_every_target(model: str, target: str, tmp_path: Path) -> None:
    report = export(model, target, tmp_path).report
    engines = {record.engine for record in report.parity}
    assert len(engines) >= 2 and "rewrite" in engines
    for record in report.parity:
        assert record.passed, record
        assert record.relative_error <= 1e-4, record
    merged = [site for site in report.merges if site.variant == "merged"]
    assert merged and all(site.tokens_after < site.tokens_before for site in merged if site.kind == "merge")
    if target == "executorch":
        regions = {each.variant: each.regions for each in report.placement if each.component != "sampler"}
        merges = sum(site.kind == "merge" for site in merged)
        assert regions["merged"] <= regions["full"] + merges


def test_core_ml_delegate_takes_a_merging_model_whole(tmp_path: Path) -> None:
    target, options = find_target("executorch"), ExportOptions(backend="coreml")
    from tests.zoo import ZOO
    from tm_export.exporters.capture import capture
    from tm_export.exporters.rewrite import lower_merges, raise_merges
    from tm_export.exporters.targets.base import Signature

    module, inputs = ZOO["tome_exclusive"]()
    raised = raise_merges(capture(module, inputs), 0).program
    program = target.legalize(lower_merges(raised, target.costs(options), options, half=True), options).program
    path, variant = emit_one(target, program, Signature(("images",), ("y",)), tmp_path, options)
    placement = target.placement(path, variant.function)
    assert placement.regions == 1 and not placement.outside
