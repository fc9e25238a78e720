"""What a module returns where a selection has a capacity: as many tokens as there is room for, and which are in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tm_export.exporters.capture.counts.readings import READINGS
from tm_export.exporters.graph.user_line import line_of, source_of_call
from tm_export.exporters.source.model_source import ComponentSource
from tm_export.exporters.source.wrapped import wrapping


@dataclass(frozen=True)
class Room:
    """A dimension of an output with room for `size` tokens, by the output's position among those that are returned."""

    output: int
    dim: int
    size: int


class TooMany(ValueError):
    """A selection chose more than there is room for."""


def with_room(
    component: ComponentSource, rooms: Sequence[Room], lines: Mapping[str, int], returned: int
) -> ComponentSource:
    """The component with modules that return what its artifact does: the reference that it is held against.

    Args:
        component: whose modules return as many tokens as there are.
        rooms: of its outputs, in the order of what the artifact returns beside them.
        lines: the capacity of each line that selects.
        returned: how many outputs the modules return.
    """
    names = component.output_names or tuple(f"output_{i}" for i in range(returned))
    by_output = [room.output for room in rooms]
    more = tuple(
        f"{names[room.output]}_used" + (f"_{room.dim}" if by_output.count(room.output) > 1 else "") for room in rooms
    )
    builders = {name: wrapping(build, _Filled, tuple(rooms), lines) for name, build in component.variants.items()}
    return replace(component, variants=builders, output_names=(*names, *more))


class _Filled(nn.Module):
    """A module whose outputs are filled up with zeros; raises `TooMany` for inputs that need more room."""

    def __init__(self, module: nn.Module, rooms: tuple[Room, ...], lines: Mapping[str, int]) -> None:
        super().__init__()
        self.module = module
        self._rooms, self._lines = rooms, lines

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Run the module."""
        with _WithinCapacity(self._lines):
            returned = self.module(*values)
        outputs = [leaf for leaf in pytree.tree_leaves(returned) if isinstance(leaf, Tensor)]
        used = []
        for room in self._rooms:
            count = outputs[room.output].shape[room.dim]
            outputs[room.output] = _filled_up(outputs[room.output], room)
            used.append(torch.arange(room.size) < count)
        return (*outputs, *used)


def _filled_up(output: Tensor, room: Room) -> Tensor:
    missing = room.size - output.shape[room.dim]
    behind = output.dim() - 1 - room.dim % output.dim()
    return F.pad(output, (*([0, 0] * behind), 0, missing))


class _WithinCapacity(TorchFunctionMode):
    """Lets every function be, and counts what selections by a mask choose."""

    def __init__(self, lines: Mapping[str, int]) -> None:
        super().__init__()
        self._lines = lines

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in READINGS and (room := self._lines.get(line_of(source_of_call()))) is not None:
            with suppress(_Counted):
                READINGS[func](_Count(room), func, args, kwargs)
        return func(*args, **kwargs)


class _Counted(Exception):
    """That a reading has asked."""


@dataclass(frozen=True)
class _Count:
    """Asked by a reading, counts what is chosen and answers nothing."""

    room: int

    def value(self, of: Tensor, what: str, /) -> Any:
        raise _Counted

    def chosen(self, mask: Tensor, what: str, /) -> Any:
        if int(mask.sum()) > self.room:
            raise TooMany(f"{int(mask.sum())} are chosen, and there is room for {self.room}")
        raise _Counted
