"""Follow what is in use of a selection with a capacity through a captured program, to its outputs.

Wherever a token that is not in use would have a part in the result, it is replaced by what has none: zero in a sum,
minus infinity in a softmax or an order, nothing in a mask of attention. Outputs have the tokens in use first, in their
order, and zeros behind; further outputs say which are in use.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind

from tm_export.exporters.capture.capacity.indexing import INDEXING
from tm_export.exporters.capture.capacity.moving import MOVING, elementwise
from tm_export.exporters.capture.capacity.multiplying import MULTIPLYING
from tm_export.exporters.capture.capacity.places import (
    IN_USE,
    Carried,
    along,
    comes_first,
    filled,
    in_front,
    known,
    mask_of,
    to_front,
    united,
    varying,
)
from tm_export.exporters.capture.capacity.reducing import REDUCING
from tm_export.exporters.capture.capacity.returned import Room
from tm_export.exporters.capture.capacity.step import Handler, Step
from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.graph.decompose import decompose
from tm_export.exporters.graph.nodes import arguments, operator_of, value_of
from tm_export.exporters.graph.retrace import KEEP, Values, retrace
from tm_export.exporters.graph.user_line import source_line

_HANDLERS: Final[Mapping[Any, Handler]] = {**MOVING, **REDUCING, **MULTIPLYING, **INDEXING}


def carry(program: ExportedProgram) -> tuple[ExportedProgram, tuple[Room, ...]]:
    """Return the program as described above, and which dimensions of its outputs have room for more than is in use.

    Raises `ConversionRefused`, with the user's line, at an operator that cannot be told what is not in use.
    """
    if not any(node.target is IN_USE for node in program.graph.nodes):
        return program, ()
    program = _in_known_operators(program)
    carrying = _Carrying(program)
    return retrace(program, carrying), tuple(carrying.rooms)


def _in_known_operators(program: ExportedProgram) -> ExportedProgram:
    """The program with operators behind a selection taken apart that nothing here knows."""
    for _ in range(4):
        reached: set[fx.Node] = set()
        for node in program.graph.nodes:
            if node.target is IN_USE or any(source in reached for source in node.all_input_nodes):
                reached.add(node)
        unknown = {node.target for node in reached if isinstance(node.target, OpOverload) and not _handler(node.target)}
        taken_apart = decompose(program, lambda called, unknown=unknown: called not in unknown)  # type: ignore[misc]
        if taken_apart is program:
            break
        program = taken_apart
    return program


def _handler(called: Any) -> Handler | None:
    if called in _HANDLERS:
        return _HANDLERS[called]
    return elementwise if torch.Tag.pointwise in getattr(called, "tags", ()) else None


class _Carrying:
    """A translator that knows of each node the places of its elements."""

    def __init__(self, program: ExportedProgram) -> None:
        self._carried: dict[fx.Node, Any] = {}
        self._kinds = [spec.kind for spec in program.graph_signature.output_specs]
        self.rooms: list[Room] = []

    def __call__(self, node: fx.Node, values: Values, /) -> Any:
        """Compute a node."""
        if node.op == "output":
            return self._returned(node, values)
        if node.target is IN_USE:
            return self._selected(node, values)
        if not any(self._carried.get(source) for source in node.all_input_nodes) or "_assert" in str(node.target):
            return KEEP
        if operator_of(node) is operator.getitem:
            source, position = arguments(node)
            self._carried[node] = self._carried[source][position]
            return KEEP
        step = Step(node, values, self._carried)
        handler = _handler(node.target)
        if handler is None:
            step.refuse("what it makes of tokens that are not in use is not known here")
        made = handler(step)
        self._carried[node] = made.carried
        if isinstance(node.meta["val"], tuple | list):
            return made.value
        carried: Any = made.carried
        if all(map(comes_first, carried)):
            return made.value
        value, self._carried[node] = to_front(step.call() if made.value is KEEP else made.value, carried)
        return value

    def _selected(self, node: fx.Node, values: Values) -> Tensor:
        positions: Tensor
        positions, count = (values(argument) for argument in arguments(node))
        shape = tuple(positions.shape)
        own = self._carried.get(arguments(node)[0], ())
        self._carried[node] = united([*own, in_front(torch.arange(shape[-1]) < count, shape, len(shape) - 1)])
        return positions

    def _returned(self, node: fx.Node, values: Values) -> Any:
        """The outputs, and behind them which of their tokens are in use."""
        returned = arguments(node)[0]
        results, used = list(values(returned)), []
        position = -1
        for i, (output, kind) in enumerate(zip(returned, self._kinds, strict=True)):
            position += kind is OutputKind.USER_OUTPUT
            carried = self._carried.get(output, ()) if isinstance(output, fx.Node) else ()
            if not carried:
                continue
            if kind is not OutputKind.USER_OUTPUT:
                raise ConversionRefused(
                    f"what is written at {source_line(output)} into an input or a buffer follows a selection with a "
                    "capacity: write what has a fixed number of tokens"
                )
            results[i], masks = _packed(output, results[i], carried)
            for dim, mask in masks.items():
                self.rooms.append(Room(position, dim, value_of(output).shape[dim]))
                used.append(mask)
        return (*results, *used)


def _packed(output: fx.Node, value: Tensor, carried: Carried) -> tuple[Tensor, dict[int, Tensor]]:
    """An output with zeros where it is not in use, and what is, by dimension."""
    with known():
        dims = [varying(each.place) for each in carried]
    if any(len(each) > 1 for each in dims):
        raise ConversionRefused(
            f"an output, made at {source_line(output)}, has tokens of a selection with a capacity along several "
            "dimensions together: return it before it is reshaped"
        )
    used: dict[int, Tensor] = {}
    for dim in sorted({d for each in dims for d in each}):
        mask = mask_of(along(carried, frozenset({dim})))
        assert mask is not None
        used[dim] = mask.reshape(-1).clone()
    return filled(value, carried, 0), used
