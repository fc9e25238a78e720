"""Programs like each rule's pattern and near it compute in every stage and form what PyTorch does.

`benchmarks/rule_fuzzer.py` writes more of them, for as long as it is let.
"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.support.rule_oracle import Refused, differences, expected_of, exported_differences
from tests.support.rule_programs import PROGRAMS, RuleProgram

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


KNOWN = {
    "slices that are no pairs": (
        "a = (x[:, 0:8:2] + x[:, 1:2:2]) / 2; b = (x[:, :7:2] + x[:, 1:6:2][:, :1]) / 2",
        "c = (n[:, ::2] + n[:, 1::2]) / 2; d = torch.add(x[:, ::2], x[:, 1::2], alpha=2) / 2",
        "return a, b, c, d, (x[:, :5:2] + x[:, 1:6:2]) / 2, (x[:, ::2] + x[:, ::2]) / 2",
    ),
    "indices that count from the end": (
        "i = x[..., 0].topk(3, 1).indices[0]",
        "return x[:, i * -1], x[:, 2 - i], x[:, i.to(torch.int32)], w.transpose(0, 1).index_put((i - 8,), x.mean())",
    ),
    "places that are written twice": (
        "i = n[..., 0].abs() % 3",
        "a = w.scatter(1, i[..., None].expand(-1, -1, 4), x); b = torch.zeros(2, 3).scatter(1, i, 1.0)",
        "c = torch.zeros(2, 3, dtype=torch.int64).scatter(1, i, torch.arange(8).expand(2, -1) + (1 << 25))",
        "d = torch.cat([w, w[:, :3].scatter(1, i[..., None].expand(-1, -1, 4), x)], 1)",
        "return a, b, c, d, torch.zeros(2, 3, dtype=torch.bool).scatter(1, i, True)",
    ),
    "infinite rows": (
        "y = x.masked_fill(n > 1, -math.inf); i = x[..., 0].argsort(1)[:, :3, None].expand(-1, -1, 4)",
        "z = torch.full((2, 8, 4), math.inf).scatter(1, i, x[:, :3]); u = y.scatter_reduce(1, i, w[:, :3], 'sum')",
        "v = w.scatter_reduce(1, i, y[:, :3], 'mean', include_self=False)",
        "return y.gather(1, i), z, u, v, torch.zeros(2, 8, 4).log().scatter(1, i, 0.0), y.amax(1)",
    ),
    "integers that are reduced": (
        "i = n.abs() % 3; b = torch.full((2, 3, 4), (1 << 25) + 1); s = n + (1 << 26)",
        "ways = [('sum', True), ('mean', False), ('mean', True), ('amax', False), ('amin', True), ('prod', False)]",
        "return [b.scatter_reduce(1, i, s, way, include_self=base) for way, base in ways]",
    ),
    "labels and truth values": (
        "label = (w[..., 0] > 0).long(); mask = x[..., 0] > 0",
        "a = (label * (1 << 25) + torch.arange(8)).argsort(1)",
        "b = mask.float().argsort(dim=1, descending=True, stable=True)",
        "c = label.argsort(dim=1, stable=True); d = w[..., 0].round().sort(dim=1, stable=True).indices",
        "return a, b, c, d, mask.max(1).indices, n.argmin(1), (n[..., 0] + (1 << 30)).argmax(1)",
    ),
    "a choice over another batch": (
        "s = x @ w.transpose(1, 2); hard = torch.zeros_like(s).scatter(-1, s.argmax(-1, keepdim=True), 1.0)",
        "picked = torch.zeros(1, 16).scatter(1, s.argmax(-1).reshape(1, 16) * 2, 1.0)",
        "return hard.transpose(1, 2) @ x, s.gather(-1, s.argmax(-1, keepdim=True)), picked",
    ),
    "finite scores of any size": (
        "s = torch.cat([torch.full_like(x[:, :1], -1e9), x[:, 1:]], 1); i = s.argmax(-1)",
        "k = torch.cat([x[..., 0] * 1e30, x[..., 1] * 1e-30], 1); o = k.argsort(1, descending=True)",
        "return s.gather(-1, i.unsqueeze(-1)), k.gather(1, o), o",
    ),
    "indices beyond the last": (
        "i = x[..., :1].argsort(1)",
        "return torch.take_along_dim(n, i, -1), torch.take_along_dim(x, n[..., :1], 1)",
    ),
    "none of them": (
        "i = x.topk(0, 0).indices; j = i.gather(1, i.argsort(1)[:, :2])",
        "return x.gather(1, i[..., :1].expand(-1, -1, 4).clamp(0, 7)), j",
    ),
    "truth values summed with a factor": (
        "i = x[..., :1].argsort(1)[0, :, 0]; s = w.masked_fill(n > 1, -math.inf) > 0",
        "return (n > 0).index_add(1, i, s, alpha=3)",
    ),
    "repeated rows and a larger gate": (
        "y = x[:, :3].repeat_interleave(2, 1); gate = torch.ones(3, 1, 1, 1)",
        "return y * gate, torch.add(y, w[:, :6], alpha=2), y * w[:, :1] + w[:, 2:], y.repeat_interleave(2, -1)",
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_was_once_taken_for_something_else(name: str) -> None:
    assert list(differences(RuleProgram(KNOWN[name]))) == []


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
