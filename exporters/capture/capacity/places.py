"""Which place of a selection each element of a tensor belongs to, and whether that place is in use.

A selection with a capacity of S has S places, the first `count` of which are in use. What is computed from it belongs
to these places element by element, and where it does is known at export: moving elements about moves it likewise, so
the operator itself is run on `place`, whole numbers of the tensor's shape. What is in use is known on the phone alone::

    rows = x[:, mask]          [B, S, C]    place[b, s, c] = s                used = (0 … S-1) < mask.sum()
    rows.transpose(0, 1)       [S, B, C]    place[s, b, c] = s                the same
    cat([text, rows], 1)       [B, T+S, C]  place = -1, -1, …, 0 … S-1        the same; -1 is always in use

What is in use along a dimension always comes first, so that it is counted as in PyTorch: an index means the same token.
Where a move leaves it otherwise, such as `cat([rows, text], 1)`, it is brought to the front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

ALWAYS: Final = -1
"""The place of an element that belongs to none."""


@torch.library.custom_op("tm_export::in_use", mutates_args=())
def in_use(positions: Tensor, count: Tensor) -> Tensor:
    """Mark the last dimension of `positions` as the places of a selection; the first `count` (0-d) are in use."""
    return positions.clone()


@in_use.register_fake
def _(positions: Tensor, count: Tensor) -> Tensor:
    return torch.empty_like(positions)


IN_USE: Final = torch.ops.tm_export.in_use.default


@dataclass(frozen=True)
class Places:
    """The elements of a tensor, by place of one selection.

    Attributes:
        used_S: booleans, a value of the graph that is traced: which places are in use.
        place: int64 of the tensor's shape, known now: the place of each element, or `ALWAYS`.
    """

    used_S: Tensor
    place: Tensor


Carried = tuple[Places, ...]
"""A tensor's elements are in use where the places of all these are."""


@contextmanager
def known() -> Iterator[None]:
    """Compute with numbers that are known now, beside the graph that is traced."""
    with _disable_current_modes():
        yield


def varying(place: Tensor) -> frozenset[int]:
    """The dimensions along which an element's place is not always the same."""
    return frozenset(
        d for d, size in enumerate(place.shape) if size > 1 and not bool((place == place.narrow(d, 0, 1)).all())
    )


def united(carried: Sequence[Places]) -> Carried:
    """The same with one entry for what says the same, and without entries that say nothing."""
    with known():
        kept: list[Places] = []
        for each in carried:
            if bool((each.place == ALWAYS).all()):
                continue
            for i, other in enumerate(kept):
                one, two = each.place, other.place
                is_same = each.used_S is other.used_S and varying(one) == varying(two)
                if is_same and bool(((one == ALWAYS) | (two == ALWAYS) | (one == two)).all()):
                    kept[i] = Places(other.used_S, torch.maximum(one, two))
                    break
            else:
                kept.append(each)
        return tuple(kept)


def moved(carried: Carried, move: Callable[[Tensor], Tensor]) -> Carried:
    """The places after elements were moved by `move`, which gives `ALWAYS` where it puts in others."""
    with known():
        return united([Places(each.used_S, move(each.place)) for each in carried])


def broadcast(carried: Carried, shape: Sequence[int]) -> Carried:
    """The places of a tensor that is broadcast."""
    return moved(carried, lambda place: place.expand(tuple(shape)))


def along(carried: Carried, dims: frozenset[int]) -> Carried:
    """Those places that vary along one of these dimensions."""
    with known():
        return tuple(each for each in carried if varying(each.place) & dims)


def has_always(carried: Carried) -> bool:
    """Whether some elements are in use whatever was selected."""
    with known():
        return all(bool((each.place == ALWAYS).any()) for each in carried)


def mask_of(carried: Carried) -> Tensor | None:
    """Which elements are in use, broadcastable to the tensor: a value of the graph; None if all are."""
    masks = [_mask(each) for each in carried]
    if not masks:
        return None
    found = masks[0]
    for mask in masks[1:]:
        found = found & mask
    return found


def filled(x: Tensor, carried: Carried, value: Any) -> Tensor:
    """The tensor with `value` where it is not in use."""
    mask = mask_of(carried)
    return x if mask is None else torch.where(mask, x, torch.full((), value, dtype=x.dtype))


def counted(used_S: Tensor, size: int) -> Tensor:
    """[size] booleans, true as often as `used_S` is, and first."""
    return torch.arange(size) < used_S.sum()


def comes_first(each: Places) -> bool:
    """Whether what is in use comes first, however much it is, if places vary along one dimension alone."""
    with known():
        dims = varying(each.place)
        if len(dims) != 1:
            return True
        (dim,) = dims
        row = each.place.movedim(dim, -1).reshape(-1, each.place.shape[dim])[0]
        return bool((row[1:] >= row[:-1]).all())


def to_front(value: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
    """The tensor with what is in use first, in its order, along each dimension along which that is not so."""
    with known():
        scattered = {dim for each in carried if not comes_first(each) for dim in varying(each.place)}
    for dim in sorted(scattered):
        with known():
            is_own = [varying(each.place) == {dim} for each in carried]
        mask, size = mask_of(tuple(each for each, own in zip(carried, is_own, strict=True) if own)), value.shape[dim]
        assert mask is not None
        flat, steps = mask.reshape(-1), torch.arange(size)
        value = value.index_select(dim, torch.where(flat, steps, steps + size).argsort())
        others = [each for each, own in zip(carried, is_own, strict=True) if not own]
        carried = (*others, in_front(counted(flat, size), value.shape, dim))
    return value, carried


def in_front(used_S: Tensor, shape: Sequence[int], dim: int) -> Places:
    """Places along one dimension of a tensor, all of a selection as they come."""
    with known():
        return Places(used_S, numbered(shape, dim))


def numbered(shape: Sequence[int], dim: int) -> Tensor:
    """0, 1, … along a dimension."""
    return torch.arange(shape[dim]).view([-1 if d == dim else 1 for d in range(len(shape))]).expand(tuple(shape))


def stretched(place: Tensor, dim: int, size: int) -> Tensor:
    """Places that do not vary along a dimension, where it is of another size."""
    return place.narrow(dim, 0, 1).expand([size if d == dim else n for d, n in enumerate(place.shape)])


def _mask(each: Places) -> Tensor:
    with known():
        place = each.place
        for d in set(range(place.dim())) - varying(place):
            place = place.narrow(d, 0, 1)
        shape, flat = tuple(place.shape), place.flatten().tolist()
    return _looked_up(each.used_S, flat).reshape(shape)


def _looked_up(used_S: Tensor, places: list[int]) -> Tensor:
    """`used_S` at places, in slices of it: targets have no good way to look up truth values."""
    times = len(list(next(groupby(places))[1]))
    if len(places) % times == 0 and all(
        len(set(places[i : i + times])) == 1 for i in range(0, len(places), times)
    ):  # each so often in a row
        once = _in_slices(used_S, places[::times])
        return once if times == 1 else once[:, None].expand(-1, times).reshape(-1)
    return _in_slices(used_S, places)


def _in_slices(used_S: Tensor, places: list[int]) -> Tensor:
    pieces: list[tuple[int, int]] = []  # the first place, and how many
    for place in places:
        start, length = pieces[-1] if pieces else (0, 0)
        follows = place == ALWAYS if start == ALWAYS else place == start + length
        if pieces and follows:
            pieces[-1] = (start, length + 1)
        else:
            pieces.append((place, 1))
    size = used_S.shape[0]
    made = [
        torch.ones(length, dtype=torch.bool)
        if start == ALWAYS
        else used_S
        if (start, length) == (0, size)
        else used_S[start : start + length]
        for start, length in pieces
    ]
    return made[0] if len(made) == 1 else torch.cat(made)
