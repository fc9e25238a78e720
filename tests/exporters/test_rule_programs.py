"""Programs like each rule's pattern and near it compute in every stage and form what PyTorch does.

`benchmarks/rule_fuzzer.py` writes more of them, for as long as it is let.
"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from rule_oracle import Refused, differences, expected_of, exported_differences
from rule_programs import PROGRAMS, RuleProgram

few = settings(max_examples=5, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("rule", PROGRAMS)
@few
@given(data=st.data())
def test_every_stage_computes_what_the_program_says(rule: str, data: st.DataObject) -> None:
    program = data.draw(PROGRAMS[rule])
    try:
        expected_of(program)
    except Refused:
        assume(False)
    assert list(differences(program)) == []


HARD = RuleProgram((
    "y = (x[:, 0:8:2] + x[:, 1:2:2]) / 2",
    "s = x[:, :6:2] @ x[:, 1:6:2].transpose(1, 2)",
    "hit = torch.zeros(2, 3).scatter(1, s.argmax(-1), 1.0)",
    "assign = torch.zeros_like(s).scatter(-1, s.argmax(-1, keepdim=True), 1.0)",
    "last = x[:, -6::2].gather(1, s.argmax(-1)[:, :, None].expand(-1, -1, 4))",
    "return y, hit, assign, s.gather(-1, s.argmax(-1, keepdim=True)), last",
))  # fmt: skip


@pytest.mark.parametrize("target", ["onnx", "executorch", "coreml"])
def test_what_could_be_taken_for_a_merge_is_exported_as_it_is(target: str, tmp_path: Path) -> None:
    """Slices that are no pairs, parts of the tokens, one value written twice, and a choice read over another batch."""
    assert list(exported_differences(HARD, target, tmp_path)) == []
