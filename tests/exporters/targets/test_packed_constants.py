"""Constants that XNNPACK's delegate frees: none is left to be read; artifacts run from a file, as on a phone."""

from pathlib import Path

import pytest
import torch
from executorch.exir import to_edge_transform_and_lower
from torch import Tensor, nn
from torch.export import ExportedProgram

from tests.support.programs import emit_one, program_of
from tm_export.exporters.capture.capture import capture
from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.reference.replay import replay
from tm_export.exporters.targets.base import Signature, find_target
from tm_export.exporters.targets.executorch.packed_constants import refuse_unpacked_constants, separate_packed_constants
from tm_export.exporters.targets.executorch.target import _partitioners
from tm_export.runtime.engines import engines_for

X = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0))
OPTIONS = ExportOptions()


class SharedWeight(nn.Module):
    """A matrix that is multiplied with, and added."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 64, generator=torch.Generator().manual_seed(1)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, self.weight) * self.weight + self.weight


class ReturnedWeight(nn.Module):
    """A matrix that is multiplied with, stacked, and returned."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.lin(x), torch.cat([x, self.lin.weight[None]]), self.lin.weight


class Prelu(nn.Module):
    def __init__(self, slopes: int) -> None:
        super().__init__()
        self.prelu = nn.PReLU(slopes)
        nn.init.normal_(self.prelu.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(x.relu() - 0.5) * 2


def check_delegates(program: ExportedProgram) -> None:
    edge = to_edge_transform_and_lower(program, partitioner=_partitioners(OPTIONS))
    refuse_unpacked_constants(edge.exported_program().graph_module)


@pytest.mark.parametrize(
    ("module", "x"), [(SharedWeight(), X), (Prelu(8), X.reshape(1, 8, 8, 64))], ids=["shared weight", "prelu"]
)
def test_what_executorch_would_write_is_refused(module: nn.Module, x: Tensor) -> None:
    with pytest.raises(ConversionRefused, match=r"frees a constant that \w+ still reads, at test_packed_constants.py"):
        check_delegates(torch.export.export(module, (x,)).run_decompositions({}))


@pytest.mark.parametrize(
    "module",
    [SharedWeight(), ReturnedWeight(), Prelu(1), Prelu(64)],
    ids=["shared weight", "returned weight", "prelu", "prelu by channel"],
)
def test_what_we_write_is_sound_and_runs_from_a_file(module: nn.Module, tmp_path: Path) -> None:
    returned = module(X)
    expected = tuple(each.detach() for each in (returned if isinstance(returned, tuple) else (returned,)))
    target, names = find_target("executorch"), Signature(("x",), ("y", "stacked", "weight")[: len(expected)])
    program = target.legalize(capture(module, (X,)), OPTIONS).program
    check_delegates(program)
    path, variant = emit_one(target, program, names, tmp_path, OPTIONS, (X,), expected)
    with engines_for("executorch")[-1].open(path, variant) as session:
        for _ in range(3):
            results = session.run({"x": X.numpy()})
            for name, wanted in zip(names.outputs, expected, strict=True):
                torch.testing.assert_close(torch.from_numpy(results[name]), wanted, rtol=1e-4, atol=1e-5)


def test_only_a_weight_that_is_read_otherwise_gets_a_copy() -> None:
    program = capture(SharedWeight(), (X,))
    separated, copies = separate_packed_constants(program)
    assert len(copies) == 1 and set(copies.values()) <= set(program.state_dict)
    inputs = [node for node in separated.graph.nodes if node.op == "placeholder"]
    assert len(inputs) == 3
    torch.testing.assert_close(replay(separated, (X,)).outputs[0], SharedWeight()(X))
    plain = capture(nn.Linear(64, 64), (X,))
    assert separate_packed_constants(plain) == (plain, {})
    adding = program_of(lambda x: x + torch.arange(64.0), X)
    assert separate_packed_constants(adding) == (adding, {})
