"""An index that is a tensor of one number, as in `table[step]` and `cache[:, pos] = k`, is read by the graph.

In eager PyTorch takes such a number out of its tensor, so that what is traced asks for a value that is not there. Here
the row is selected, or written, by the tensor itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@contextmanager
def indices_stay_tensors(module: nn.Module) -> Iterator[None]:
    """Let the module's forward index by tensors of one number; the caller puts its attributes back."""
    forward: Callable[..., Any] = module.forward

    @functools.wraps(forward)
    def by_tensors(*args: Any, **kwargs: Any) -> Any:
        with _ByTensors():
            return forward(*args, **kwargs)

    module.forward = by_tensors
    yield


class _ByTensors(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], Tensor):
            x, index, *values = args
            place = _first_single(x, index)
            if place is not None:
                return _written(x, index, values[0], place) if values else _selected(x, index, place)
        return func(*args, **(kwargs or {}))


def _first_single(x: Tensor, index: Any) -> tuple[int, int] | None:
    """Where the first tensor of one whole number stands in an index, and for which dimension."""
    items = index if isinstance(index, tuple) else (index,)
    dim = 0
    for position, item in enumerate(items):
        if isinstance(item, Tensor) and item.dim() == 0 and item.dtype not in (torch.bool, torch.uint8):
            return None if item.is_floating_point() else (position, dim)
        if item is Ellipsis:
            dim = x.dim() - sum(_dims_of(each) for each in items[position + 1 :])
        else:
            dim += _dims_of(item)
    return None


def _dims_of(item: Any) -> int:
    """How many dimensions a part of an index is for."""
    if item is None or isinstance(item, bool):
        return 0
    return item.dim() if isinstance(item, Tensor) and item.dtype in (torch.bool, torch.uint8) else 1


def _selected(x: Tensor, index: Any, place: tuple[int, int]) -> Any:
    position, dim = place
    rows, rest = x.index_select(dim, _row(x, index, place)), _with_zero(index, position)
    return _again(Tensor.__getitem__, rows, rest)


def _written(x: Tensor, index: Any, value: Any, place: tuple[int, int]) -> None:
    position, dim = place
    row = _row(x, index, place)
    rows = x.index_select(dim, row)
    _again(Tensor.__setitem__, rows, _with_zero(index, position), value)
    x.index_copy_(dim, row, rows)


def _again(func: Any, *args: Any) -> Any:
    """The rest of the index, in which there may be more of them."""
    with _ByTensors():
        return func(*args)


def _row(x: Tensor, index: Any, place: tuple[int, int]) -> Tensor:
    position, dim = place
    at: Tensor = (index[position] if isinstance(index, tuple) else index).reshape(1).to(torch.int64)
    return torch.where(at < 0, at + x.shape[dim], at)


def _with_zero(index: Any, position: int) -> Any:
    return (*index[:position], 0, *index[position + 1 :]) if isinstance(index, tuple) else 0
