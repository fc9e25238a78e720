"""The operators `== != < <= > >= in`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from tm_export.runtime.apps.charts.programs.values import Array, Distinct, Value, elementwise, name_of_type

_COMPARISONS: Final[Mapping[str, Callable[[Value, Value], Value]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def compare(sign: str, left: Value, right: Value) -> Value:
    """left sign right: a bool, or an array of them if one of both is an array.

    Raises:
        TypeError: they have no order.
        ValueError: they are arrays of different lengths.
    """
    if isinstance(left, Array) or isinstance(right, Array):
        return elementwise(partial(of_scalars, sign), left, right)
    return of_scalars(sign, left, right)


def of_scalars(sign: str, left: Value, right: Value) -> bool:
    """left sign right, which may be collections too, as Python has it.

    Raises:
        TypeError: they have no order.
    """
    try:
        return bool(_COMPARISONS[sign](left, right))
    except TypeError:
        raise TypeError(f"{sign} does not go with {name_of_type(left)} and {name_of_type(right)}") from None


def contains(collection: Value, item: Value) -> bool:
    """Whether the item is in the collection; a string in a string is a part of it.

    Raises:
        TypeError: it is no collection, or the item cannot be in it.
    """
    if isinstance(collection, Array):
        return any(of_scalars("==", one, item) for one in collection.items)
    if isinstance(collection, Distinct):
        return item in collection.members
    if isinstance(collection, str | list | tuple | dict):
        return item in collection
    raise TypeError(f"{name_of_type(collection)} is no collection")
