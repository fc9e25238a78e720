"""Which operators XNNPACK's delegate gets: what its partitioner takes, but for what then fails when it is loaded."""

from __future__ import annotations

from typing import Any, Final

from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from torch import Tensor, fx
from torch.export import ExportedProgram

MOST_DIMENSIONS: Final = 6
"""XNNPACK's tensors have no more (XNN_MAX_TENSOR_DIMS); a program with one that has does not load."""


class LoadablePartitioner(XnnpackPartitioner):  # type: ignore[misc]
    """XNNPACK's own partitioner, without the operators on tensors of more than six dimensions, or that give one number.

    A single number comes out of the delegate as an array that holds it.
    """

    def get_matched_nodes_from_configs(self, ep: ExportedProgram) -> list[list[fx.Node]]:
        """Groups of nodes that go into the delegate together, those left out that it cannot hold."""
        groups: list[list[fx.Node]] = super().get_matched_nodes_from_configs(ep)
        return [group for group in groups if all(map(_holds, group))]


def _holds(node: fx.Node) -> bool:
    if 0 in _ranks(node.meta["val"]):
        return False
    return all(rank <= MOST_DIMENSIONS for each in (node, *node.all_input_nodes) for rank in _ranks(each.meta["val"]))


def _ranks(value: Any) -> list[int]:
    if isinstance(value, tuple | list):
        return [rank for each in value for rank in _ranks(each)]
    return [value.dim()] if isinstance(value, Tensor) else []
