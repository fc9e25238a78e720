"""What is changed in PyTorch is still needed, and does what it is for."""

import copy
import inspect

import torch
from torch import Tensor, fx
from torch.fx.traceback import NodeSource

import tm_export.exporters.torch_patches  # noqa: F401


def source() -> NodeSource:
    class Doubled(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2

    (node,) = (each for each in fx.symbolic_trace(Doubled()).graph.nodes if each.op == "call_function")
    return NodeSource(node, "a pass")


def test_pytorch_still_copies_where_a_node_comes_from() -> None:
    """If it does not, the change can go."""
    assert "deepcopy" in inspect.getsource(NodeSource.__init__)
    assert "__deepcopy__" not in inspect.getsource(NodeSource)


def test_a_copied_list_of_sources_is_another_list_of_the_same() -> None:
    first = [source()]
    second = copy.deepcopy(first)
    assert second == first and second is not first and second[0] is first[0]
