"""Each rule that writes an operator in others computes what PyTorch does: every call of every operator."""

from __future__ import annotations

from typing import Any, Final

import pytest
from calls import Call, expected_of
from one_by_one import graph_of, run_by_rules
from right import right_everywhere
from trial import SEEDS, hold

from tm_export.exporters.capture.normalise import WRITTEN_OUT
from tm_export.exporters.graph.rule import Rule
from tm_export.exporters.targets.coreml import target as coreml
from tm_export.exporters.targets.executorch import target as executorch
from tm_export.exporters.targets.executorch.xnnpack import passes
from tm_export.exporters.targets.onnx import target as onnx

RULES: Final[dict[str, tuple[Rule[Any], ...]]] = {
    "Core ML": coreml.RULES,
    "ONNX": onnx.RULES,
    "ExecuTorch": executorch.RULES,
    "XNNPACK, first": passes.FIRST,
    "XNNPACK, second": passes.SECOND,
    "XNNPACK, third": passes.THIRD,
}
"""What each target writes in other operators, behind what is written so for all."""


def reads_a_number(each: Call) -> bool:
    """Whether it indexes by a number that is in a tensor, which is a constant in a graph without symbols."""
    return each.text == "a[b]" and any(draw.shape == () for _, draw in each.inputs)


@pytest.mark.parametrize("calls", right_everywhere(), ids=lambda calls: str(calls[0]))
def test_each_rule_computes_what_its_operator_does(calls: tuple[Call, ...]) -> None:
    for each in calls:
        if reads_a_number(each):
            continue
        graph = graph_of(each, each.draw(SEEDS[0]))
        for rules in RULES.values():
            for seed in SEEDS:
                made = run_by_rules(graph, (*WRITTEN_OUT, *rules), each.draw(seed))
                hold((each,), made, expected_of((each,), seed))
