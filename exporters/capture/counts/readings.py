"""The functions of PyTorch that need values: those that draw, those that read, those that select by a mask.

Each reading computes what the function gives from recorded values, with static shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from tm_export.exporters.capture.counts.positions import Chosen, rows_of, without_uniform_dims

DRAWS: Final = {
    torch.rand,
    torch.randn,
    torch.randint,
    torch.randperm,
    torch.rand_like,
    torch.randn_like,
    torch.randint_like,
}
"""Random functions that read no values."""

_SIZED: Final = {
    torch.topk, Tensor.topk, torch.narrow, Tensor.narrow, Tensor.view, torch.reshape, Tensor.reshape, Tensor.expand,
    Tensor.repeat, Tensor.new_zeros, Tensor.new_ones, torch.split, Tensor.split, torch.chunk, Tensor.chunk,
}  # fmt: skip
"""Functions of a tensor and of sizes, which people give as tensors."""

_MAKING: Final = {torch.arange, torch.zeros, torch.ones, torch.full, torch.empty, torch.linspace}
"""Functions of sizes alone."""


class Reader(Protocol):
    """What a reading asks: see `AsEager`."""

    def value(self, of: Tensor, what: str, /) -> Any:
        """The elements of a tensor."""

    def chosen(self, mask: Tensor, what: str, /) -> Chosen:
        """The positions that a mask chooses."""


Reading = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]


def first_number(func: Any) -> int | None:
    """The position from which on a function takes numbers, that may be given as tensors; `None` if it does not."""
    if func in _MAKING:
        return 0
    return 1 if func in _SIZED else None


def _number(what: str, convert: Callable[[Any], Any]) -> Reading:
    def read(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return convert(reader.value(args[0].reshape(()), what))

    return read


def _tolist(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return reader.value(args[0], "`.tolist()`")


def _numpy(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    values = reader.value(args[0], "`.numpy()`")
    with _disable_current_modes():
        return torch.tensor(values, dtype=args[0].dtype).numpy()


def _equal(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    one, other = args
    return one.shape == other.shape and reader.value((one == other).all(), "`torch.equal`")


def _nonzero(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    mask = args[0] if args[0].dtype == torch.bool else args[0] != 0
    coordinates = reader.chosen(mask, f"`{func.__name__}`").coordinates
    return tuple(coordinates) if kwargs.get("as_tuple") else torch.stack(coordinates, dim=1)


def _where(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if len(args) + len(kwargs) > 1:
        return func(*args, **kwargs)
    return _nonzero(reader, func, args, {"as_tuple": True})


def _masked_select(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, mask = (*args, *kwargs.values())
    shape = torch.broadcast_shapes(x.shape, mask.shape)  # type: ignore[no-untyped-call]
    mask = without_uniform_dims(mask.expand(shape))
    return rows_of(x.expand(shape), 0, reader.chosen(mask, "`masked_select`")).flatten()


def _unique(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, what = args[0], "`unique`"
    if len(args) > 2 or any(kwargs.get(more) for more in ("return_inverse", "return_counts")) or kwargs.get("dim"):
        return func(*args, **kwargs)  # how many there are need not be asked
    ordered = x.flatten().sort().values
    if reader.value((ordered[1:] != ordered[:-1]).all(), what):
        return ordered
    values = sorted(set(reader.value(ordered, what)))
    return torch.tensor(values, dtype=x.dtype)


def _repeat_interleave(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = dict(zip(("input", "repeats", "dim"), args, strict=False)) | kwargs
    x: Tensor = given["input"] if "input" in given else given["self"]
    repeats, dim = given.get("repeats"), given.get("dim")
    if repeats is None:  # `repeat_interleave(repeats)` gives the positions themselves
        return _repeated(reader.value(x, "`repeat_interleave`"))
    if not isinstance(repeats, Tensor):
        return func(*args, **kwargs)
    if dim is None:
        x, dim = x.flatten(), 0
    return x.index_select(dim, _repeated(reader.value(repeats.expand(x.shape[dim]), "`repeat_interleave`")))


def _repeated(times: list[int]) -> Tensor:
    """The positions 0, 1, …, each as often as it says."""
    return torch.tensor([i for i, n in enumerate(times) for _ in range(n)], dtype=torch.int64)


def _getitem(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, index = args
    one = _single_mask(x, index)
    if one is not None:
        dim, mask = one
        return rows_of(x, dim, reader.chosen(mask, "a selection by a mask"))
    return func(x, _without_values(reader, index))


def _setitem(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, index, value = args
    plain = not isinstance(value, Tensor) or value.numel() == 1
    if plain and _single_mask(x, index) is not None:
        return func(*args)  # written where the mask is true: no count is needed
    return func(x, _without_values(reader, index), value)


def _single_mask(x: Tensor, index: Any) -> tuple[int, Tensor] | None:
    """The mask of an index that is a mask and nothing else, with the dimension that it begins at."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in [part for part in parts if part is Ellipsis]:
        at = next(i for i, part in enumerate(parts) if part is Ellipsis)
        behind = sum(part.dim() if isinstance(part, Tensor) else 1 for part in parts[at + 1 :])
        parts[at : at + 1] = [slice(None)] * (x.dim() - at - behind)
    while parts and _is_whole(parts[-1]):
        parts.pop()
    if not parts or not _is_mask(parts[-1]) or not all(_is_whole(part) for part in parts[:-1]):
        return None
    return len(parts) - 1, parts[-1]


def _is_whole(part: Any) -> bool:
    return isinstance(part, slice) and part == slice(None)


def _is_mask(part: Any) -> bool:
    return isinstance(part, Tensor) and part.dtype == torch.bool and part.dim() > 0


def _without_values(reader: Reader, index: Any) -> Any:
    """The index with positions in place of masks, and numbers in place of tensors that bound slices."""

    def number(bound: Any) -> Any:
        return reader.value(bound, "a bound of a slice") if isinstance(bound, Tensor) else bound

    def parts_of(part: Any) -> Sequence[Any]:
        if isinstance(part, slice):
            return [slice(number(part.start), number(part.stop), number(part.step))]
        return reader.chosen(part, "a selection by a mask").coordinates if _is_mask(part) else [part]

    parts = index if isinstance(index, tuple) else (index,)
    replaced = [one for part in parts for one in parts_of(part)]
    return tuple(replaced) if isinstance(index, tuple) or len(replaced) > 1 else replaced[0]


READINGS: Final[dict[Any, Reading]] = {
    Tensor.item: _number("`.item()`", lambda value: value),
    Tensor.__int__: _number("`int(…)`", int),
    Tensor.__index__: _number("a tensor as an index", int),
    Tensor.__float__: _number("`float(…)`", float),
    Tensor.__bool__: _number("a branch", bool),
    torch.is_nonzero: _number("a branch", bool),
    Tensor.is_nonzero: _number("a branch", bool),
    torch.equal: _equal,
    Tensor.equal: _equal,
    Tensor.tolist: _tolist,
    Tensor.numpy: _numpy,
    Tensor.nonzero: _nonzero,
    torch.nonzero: _nonzero,
    torch.argwhere: _nonzero,
    Tensor.argwhere: _nonzero,
    torch.where: _where,
    torch.masked_select: _masked_select,
    Tensor.masked_select: _masked_select,
    torch.unique: _unique,
    Tensor.unique: _unique,
    torch.repeat_interleave: _repeat_interleave,
    Tensor.repeat_interleave: _repeat_interleave,
    Tensor.__getitem__: _getitem,
    Tensor.__setitem__: _setitem,
}
