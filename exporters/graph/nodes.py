"""What a node of a graph says: its value, its operator, its arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram

from tm_export.exporters.graph.arguments import bound_arguments, from_front


def placeholders_of(graph: fx.Graph) -> list[fx.Node]:
    """The graph's inputs, in order: parameters, buffers, constants, then what the user gives."""
    return [node for node in graph.nodes if node.op == "placeholder"]


def fake_mode_of(program: ExportedProgram) -> FakeTensorMode:
    """The mode in which the program's example values live."""
    mode = detect_fake_mode([node.meta["val"] for node in placeholders_of(program.graph)])
    assert mode is not None, "a captured program has inputs"
    return mode


def value_of(node: fx.Node) -> Tensor:
    """The fake tensor that stands for the node's value: its shape and dtype."""
    value = node.meta["val"]
    assert isinstance(value, Tensor), node
    return value


def arguments(node: fx.Node) -> tuple[Any, ...]:
    """The node's positional arguments as they were written, for operators of ours and for calls that are copied.

    What an argument means by its name is read with `bound_arguments`.
    """
    return node.args


def keywords(node: fx.Node) -> dict[str, Any]:
    """The node's keyword arguments."""
    return dict(node.kwargs)


def operator_of(node: fx.Node) -> Callable[..., Any]:
    """What the node calls."""
    assert callable(node.target)
    return node.target


@dataclass(frozen=True)
class SliceOf:
    """A slice along one dimension: the tensor it is cut from, and the bounds, counted from the front."""

    source: fx.Node
    dim: int
    start: int
    end: int
    step: int

    def __len__(self) -> int:
        return len(range(self.start, self.end, self.step))


def slice_of(node: fx.Node) -> SliceOf:
    """Read the arguments of a slice: bounds are counted from the front, and within the tensor."""
    given = bound_arguments(node)
    shape = value_of(given["self"]).shape
    dim = from_front(given["dim"], len(shape))
    start, end, step = slice(given["start"], given["end"], given["step"]).indices(shape[dim])
    return SliceOf(given["self"], dim, start, max(start, end), step)


def is_float(node: fx.Node) -> bool:
    """Whether the node's value is a tensor of floating-point numbers."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()
