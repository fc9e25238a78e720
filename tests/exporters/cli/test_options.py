"""Options as they are written on a command line or in Python."""

from pathlib import Path

import pytest
import torch
from torch import nn

import tm_export
from tm_export.exporters.compile import options_for
from tm_export.exporters.errors import UsageError
from tm_export.exporters.options import ExportOptions, parse_block_budgets
from tm_export.exporters.source.named import source_of
from tm_export.exporters.targets.base import find_target


def test_a_component_may_have_a_block_budget_of_its_own() -> None:
    budget, own = parse_block_budgets(["340MB", "sampler=none", "vae_spatial=1KiB"])
    assert budget == 340_000_000 and own == (("sampler", None), ("vae_spatial", 1024))
    source = source_of("ondevice-sora-tiny", 0)
    options = ExportOptions(block_budget=budget, component_budgets=own)
    found = {each.name: options_for(each, find_target("onnx"), options).block_budget for each in source.components}
    assert found["denoiser"] == 340_000_000 and found["sampler"] is None
    assert parse_block_budgets([]) == (None, ())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1MB", "2MB"], "given twice for all components"),
        (["a=1MB", "b=1MB", "a=none"], "given twice for a: give it once"),
        (["a=lots"], "--block-budget: "),
    ],
)
def test_block_budgets_that_contradict_or_are_no_size_are_refused(values: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_block_budgets(values)


def test_a_block_budget_for_what_is_not_exported_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"given for 'head', which is not exported: there are model"):
        tm_export.export(nn.Linear(2, 2), torch.ones(1, 2), block_budget={"head": "1MB"}, out=tmp_path / "out")
    with pytest.raises(UsageError, match="block budget -1 is no size"):
        ExportOptions(component_budgets=(("model", -1),))
