"""Conversions of several components beside each other: never more than asked, and the same bundle."""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.support.bytes_of_bundle import contents
from tm_export.exporters import compile
from tm_export.exporters.api import export_source
from tm_export.exporters.bundle.bundle import Bundle
from tm_export.exporters.convert import convert
from tm_export.exporters.convert.worker import Emission, SavedBlock
from tm_export.exporters.errors import BudgetExceeded
from tm_export.exporters.options import Effort, ExportOptions
from tm_export.exporters.source.model_source import ComponentSource, ModelSource
from tm_export.exporters.weights.readers import ModuleWeights

# One worker makes the bundles, for all tests here.
pytestmark = pytest.mark.xdist_group("jobs")


def component(name: str, *widths: int) -> ComponentSource:
    """Linear layers between these widths; no two of one shape."""
    torch.manual_seed(0)
    layers = nn.Sequential(*(nn.Linear(before, after) for before, after in pairwise(widths)))
    return ComponentSource(name, {"full": lambda: layers}, (torch.ones(1, widths[0]),), ("x",), ("y",))


SOURCE = ModelSource("three", (component("cut", 30, 31, 32), component("a", 5, 6), component("last", 6, 7)), "module")
ONE_LAYER = ExportOptions(component_budgets=(("cut", 4500),))
"""Bytes: the larger one takes 4096 for its weights."""


@dataclass(frozen=True)
class Exported:
    """A bundle, and how many conversions were under way whenever one was started, it included."""

    bundle: Bundle
    under_way: list[int]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Exported]:
    """By the jobs asked for."""
    return {jobs: export(jobs, tmp_path_factory.mktemp("three")) for jobs in (1, 2)}


def export(jobs: int, out: Path) -> Exported:
    started: list[Emission] = []
    under_way: list[int] = []
    start = convert.start_emission

    def counting(*arguments: Any) -> Emission:
        under_way.append(1 + sum(not each.job.done() for each in started))
        started.append(start(*arguments))
        return started[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "start_emission", counting)
        return Exported(export_source(SOURCE, "onnx", ONE_LAYER, out, effort=Effort(jobs=jobs)), under_way)


def test_no_more_conversions_run_than_were_asked_for(exported: dict[int, Exported]) -> None:
    for jobs, each in exported.items():
        assert len(each.under_way) == 4
        assert max(each.under_way) <= jobs
        assert [blocks.conversions for blocks in each.bundle.report().blocks] == [2, 1, 1]


def test_components_stay_in_the_models_order(exported: dict[int, Exported]) -> None:
    for each in exported.values():
        assert [component.name for component in each.bundle.manifest.components] == ["cut", "a", "last"]
        assert all(record.passed for record in each.bundle.report().parity)


def test_jobs_change_no_byte(exported: dict[int, Exported]) -> None:
    assert contents(exported[1].bundle.path) == contents(exported[2].bundle.path)


def test_a_budget_too_small_for_the_last_component_is_said_before_the_first_is_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setattr(convert, "start_emission", lambda *arguments: started.append(arguments))
    with pytest.raises(BudgetExceeded, match="--block-budget is 100: give at least"):
        export_source(SOURCE, "onnx", ExportOptions(component_budgets=(("last", 100),)), tmp_path)
    assert started == []


def test_weights_from_a_checkpoint_are_not_converted_beside_a_verification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the two takes memory for a block."""
    parts = [component("a", 5, 6), component("b", 6, 7)]
    held = [replace(part, weights=ModuleWeights(part.variants["full"]().state_dict())) for part in parts]
    done: list[str] = []
    start, verify = convert.start_emission, compile.verify_component

    def starting(saved: SavedBlock, *arguments: Any) -> Emission:
        done.append("converted")
        return start(saved, *arguments)

    def verifying(*arguments: Any) -> Any:
        done.append("verified")
        return verify(*arguments)

    monkeypatch.setattr(convert, "start_emission", starting)
    monkeypatch.setattr(compile, "verify_component", verifying)
    export_source(ModelSource("two", tuple(held), "checkpoint"), "onnx", ExportOptions(), tmp_path)
    assert done == ["converted", "verified"] * 2
