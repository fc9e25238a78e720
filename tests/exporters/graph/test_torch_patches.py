"""What is changed in PyTorch is still needed, and does what it is for."""

import inspect
from pathlib import Path

import torch
from torch import Tensor, fx
from torch.fx import traceback
from torch.fx.traceback import NodeSource

import tm_export.exporters.graph.torch_patches  # noqa: F401


def test_pytorch_still_copies_where_a_node_comes_from() -> None:
    """If it does not, the change can go."""
    assert "copy.deepcopy(node.meta" in Path(traceback.__file__).read_text()
    assert list(inspect.signature(NodeSource).parameters) == ["node", "pass_name", "action"]


def test_programs_do_not_hold_where_their_nodes_come_from() -> None:
    class Doubled(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.nn.functional.gelu(x * 2)

    program = torch.export.export(Doubled(), (torch.randn(3),)).run_decompositions()
    sources = [source for node in program.graph.nodes for source in node.meta.get("from_node", ())]
    assert sources and not any(source.from_node for source in sources)
    assert isinstance(program.graph_module, fx.GraphModule)
