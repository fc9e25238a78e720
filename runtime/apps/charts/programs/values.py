"""The values of a program: None, bool, int, float, str, list, tuple, dict, and two types of our own.

`range`, `zip` and the like give lists. NumPy's numbers are bool, int and float here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tm_export.runtime.apps.charts.programs.errors import ProgramRefused
from tm_export.runtime.apps.charts.programs.limits import MOST_NESTED_VALUES, check_elements, check_keys

Value = Any
"""One of the types above. What is what is known when a program runs, not before."""

Scalar = bool | int | float | str
Number = bool | int | float


@dataclass(frozen=True, eq=False)
class Array:
    """NumPy's array of one dimension; all items are of one type, as `array_of` makes them."""

    items: tuple[Scalar, ...]

    def __eq__(self, other: object) -> bool:
        """Raises TypeError: whether lists that hold arrays are equal cannot be said, as in NumPy."""
        raise TypeError("a collection of arrays cannot be compared")


@dataclass(frozen=True)
class Distinct:
    """A set, in the order in which its members came: Python's own order of strings changes from run to run."""

    members: dict[Value, None]


_NAMES: Final = {Array: "array", Distinct: "set", type(None): "None"}


def name_of_type(value: Value) -> str:
    """What messages call the type of a value."""
    return _NAMES.get(type(value), type(value).__name__)


def is_number(value: Value) -> bool:
    """Whether it is a bool, an int or a float."""
    return isinstance(value, int | float)


def is_scalar(value: Value) -> bool:
    """Whether it can be in an array."""
    return isinstance(value, int | float | str)


def items_of(value: Value) -> list[Value]:
    """What a loop over the value would meet, as a new list.

    Raises:
        TypeError: it is no collection.
    """
    if isinstance(value, Array):
        return list(value.items)
    if isinstance(value, Distinct):
        return list(value.members)
    if isinstance(value, list | tuple | dict | str):
        return list(value)
    raise TypeError(f"{name_of_type(value)} is no collection")


def size(value: Value) -> int:
    """How many elements a collection has, with those of the collections in it; 0 for what is none.

    A collection that is in another one twice counts twice, as it does for whoever walks through it.

    Raises:
        ProgramRefused: they are too many, or nested too deeply.
    """
    count = 0
    waiting: list[tuple[Value, int]] = [(value, 1)]
    while waiting:
        one, depth = waiting.pop()
        if isinstance(one, str) or not isinstance(one, list | tuple | dict | Array | Distinct):
            continue
        inside = items_of(one) + (list(one.values()) if isinstance(one, dict) else [])
        count += len(inside)
        check_elements(count)
        if depth > MOST_NESTED_VALUES:
            raise ProgramRefused(f"more than {MOST_NESTED_VALUES} collections lie within each other")
        if not isinstance(one, Array):
            waiting += [(each, depth + 1) for each in inside]
    return count


def truth(value: Value) -> bool:
    """Whether the value counts as true.

    Raises:
        ValueError: it is an array of several elements, or of none.
    """
    if isinstance(value, Array):
        if len(value.items) != 1:
            raise ValueError(f"an array of {len(value.items)} elements is neither true nor false: use any() or all()")
        return bool(value.items[0])
    return bool(value.members) if isinstance(value, Distinct) else bool(value)


def set_of(items: Sequence[Value]) -> Distinct:
    """The set of some values.

    Raises:
        ProgramRefused: they are too many.
        TypeError: one of them cannot be in a set.
    """
    check_keys(len(items))
    return Distinct(dict.fromkeys(items))


def dict_of(pairs: Sequence[tuple[Value, Value]]) -> dict[Value, Value]:
    """The dict of some keys and values.

    Raises:
        ProgramRefused: they are too many.
        TypeError: one of the keys cannot be one.
    """
    check_keys(len(pairs))
    return dict(pairs)


def array_of(value: Value) -> Array:
    """The array of a list, a tuple, an array, or one scalar, whose items become str, float or int if one of them is.

    Raises:
        ProgramRefused: it would have more than one dimension.
        TypeError: an item can be in no array.
    """
    if isinstance(value, Array):
        return value
    items = list(value) if isinstance(value, list | tuple) else [value]
    if any(isinstance(item, list | tuple | Array) for item in items):
        raise ProgramRefused("an array has more than one dimension")
    for item in items:
        if not is_scalar(item):
            raise TypeError(f"{name_of_type(item)} can be in no array")
    types = {type(item) for item in items}
    if len(types) > 1:
        common: Callable[[Value], Scalar] = next(one for one in (str, float, int) if one in types)
        items = [common(item) for item in items]
    return Array(tuple(items))


def elementwise(function: Callable[..., Value], *operands: Value) -> Value:
    """What a function of scalars gives for each element; for scalars alone, one scalar.

    Operands of one element, and scalars, go together with as many elements as the others have.

    Raises:
        ProgramRefused: an operand has more than one dimension.
        TypeError: an operand can be in no array.
        ValueError: the numbers of elements differ.
    """
    if not any(isinstance(operand, list | tuple | Array) for operand in operands):
        return function(*operands)
    columns = [
        array_of(operand).items if isinstance(operand, list | tuple | Array) else (operand,) for operand in operands
    ]
    lengths = sorted({len(column) for column in columns} - {1})
    if len(lengths) > 1:
        raise ValueError(f"arrays of {lengths[0]} and {lengths[1]} elements do not go together")
    length = lengths[0] if lengths else 1
    spread = [column * length if len(column) == 1 else column for column in columns]
    return array_of([function(*row) for row in zip(*spread, strict=True)])
