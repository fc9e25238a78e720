"""Conversions of several components beside each other: never more than asked, and the same bundle."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tm_export.exporters import convert
from tm_export.exporters.api import export_source
from tm_export.exporters.bundle import Bundle
from tm_export.exporters.options import Effort, ExportOptions
from tm_export.exporters.sources import ComponentSource, ModelSource
from tm_export.exporters.worker import Emission

HOLD_TIMES = {"reports/export.json", "reports/index.html"}


def component(name: str, *widths: int) -> ComponentSource:
    """Linear layers between these widths; no two of one shape."""
    torch.manual_seed(0)
    layers = nn.Sequential(*(nn.Linear(before, after) for before, after in pairwise(widths)))
    return ComponentSource(name, {"full": lambda: layers}, (torch.ones(1, widths[0]),), ("x",), ("y",))


SOURCE = ModelSource(
    "four",
    (component("cut", 30, 31, 32, 33), component("a", 5, 6), component("b", 6, 7), component("last", 30, 32, 34)),
    "module",
)
ONE_LAYER = (("cut", 4800), ("last", 5000))
"""Bytes: the largest of each takes 4224 and 4488 for its weights."""


@pytest.fixture(scope="module", params=[1, 2, 3])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Bundle, list[int]]:
    """Jobs asked for, the bundle, and how many conversions were under way whenever one was started, it included."""
    started: list[Emission] = []
    counts: list[int] = []
    start = convert.start_emission

    def counting(functions: Mapping[str, Any], *arguments: Any) -> Emission:
        counts.append(1 + sum(not each.job.done() for each in started))
        started.append(start(functions, *arguments))
        return started[-1]

    options, effort = ExportOptions(component_budgets=ONE_LAYER), Effort(jobs=request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "start_emission", counting)
        bundle = export_source(SOURCE, "onnx", options, tmp_path_factory.mktemp("four"), effort=effort)
    return request.param, bundle, counts


def test_no_more_conversions_run_than_were_asked_for(exported: tuple[int, Bundle, list[int]]) -> None:
    jobs, bundle, counts = exported
    assert len(counts) == 3 + 1 + 1 + 2
    assert max(counts) <= jobs
    assert [each.conversions for each in bundle.report().blocks] == [3, 1, 1, 2]


def test_components_stay_in_the_models_order(exported: tuple[int, Bundle, list[int]]) -> None:
    bundle = exported[1]
    assert [each.name for each in bundle.manifest.components] == ["cut", "a", "b", "last"]
    assert all(record.passed for record in bundle.report().parity)


def contents(bundle: Path) -> dict[str, bytes]:
    files = {path.relative_to(bundle).as_posix(): path for path in bundle.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name not in HOLD_TIMES}


def test_jobs_change_no_byte(exported: tuple[int, Bundle, list[int]], tmp_path: Path) -> None:
    alone = export_source(SOURCE, "onnx", ExportOptions(component_budgets=ONE_LAYER), tmp_path, effort=Effort(jobs=1))
    assert contents(exported[1].path) == contents(alone.path)
