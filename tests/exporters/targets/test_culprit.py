"""An operator that a converter fails at, and does not name, is found; a part of a program computes what it did."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from tests.support.programs import program_of
from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.reference.replay import replay
from tm_export.exporters.targets.base import Function, Signature, find_target
from tm_export.exporters.targets.culprit import emit_or_name, first_that_fails, up_to

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def function(x: Tensor) -> tuple[Tensor, Tensor]:
    values, index = (x.sin() + x).topk(2)
    return values.cos() * 2, x.gather(1, index).exp()


def operators_of(program: ExportedProgram) -> list[fx.Node]:
    return [node for node in program.graph.nodes if node.op == "call_function"]


def test_a_part_of_a_program_computes_what_the_whole_does() -> None:
    program = program_of(function, X)
    operators = operators_of(program)
    parts = [up_to(program, operators[:count]) for count in range(1, len(operators) + 1)]
    assert all(part is None or len(operators_of(part)) == i for i, part in enumerate(parts, 1))
    first, last = parts[0], parts[-1]
    assert first is not None and last is not None
    torch.testing.assert_close(replay(first, (X,)).outputs[0], X.sin())
    found = {tuple(each.shape): each for each in replay(last, (X,)).outputs}
    assert len(replay(last, (X,)).outputs) == 2 and (3, 2) in found


@pytest.mark.parametrize("guilty", ["sin", "topk", "cos", "gather", "exp", "mul"])
def test_the_guilty_one_is_found(guilty: str) -> None:
    program = program_of(function, X)

    def converts(part: ExportedProgram) -> bool:
        return not any(guilty in str(node.target) for node in operators_of(part))

    found = first_that_fails(program, converts)
    assert found is not None and guilty in str(found.target)


def test_none_is_named_where_all_convert_one_by_one() -> None:
    assert first_that_fails(program_of(function, X), lambda _: True) is None


def test_a_converter_that_names_nothing_is_named_for(tmp_path: Path) -> None:
    program, target = program_of(lambda x: (x.sin() * 0.5).erfinv() + 1, X), find_target("onnx")
    function = {"full": Function(program, Signature(("x",), ("y",)))}
    with pytest.raises(ConversionRefused, match="does not say at which operator"):
        target.emit(function, tmp_path, "00", ExportOptions())
    with pytest.raises(
        ConversionRefused, match=r"ONNX's converter fails at aten\.erfinv\.default, at test_culprit\.py"
    ):
        emit_or_name(target, function, tmp_path, "00", ExportOptions())
