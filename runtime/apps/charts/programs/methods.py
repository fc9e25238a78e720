"""The methods that programs may call on values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tm_export.runtime.apps.charts.programs.function import Function
from tm_export.runtime.apps.charts.programs.limits import check_characters, check_elements
from tm_export.runtime.apps.charts.programs.numpy_functions import (
    argmax_of,
    argmin_of,
    max_of,
    mean_of,
    min_of,
    sum_of,
)
from tm_export.runtime.apps.charts.programs.values import Array, Value, is_scalar, items_of, name_of_type, truth


def _append(target: list[Value], item: Value) -> None:
    """No list can get into itself, as only scalars are taken."""
    if item is not None and not is_scalar(item):
        raise TypeError(f"append takes a number, a string, a boolean or None, not {name_of_type(item)}")
    check_elements(len(target) + 1)
    target.append(item)


def _sort(target: list[Value], *, reverse: Value = False) -> None:
    target.sort(reverse=truth(reverse))


def _index(target: list[Value] | tuple[Value, ...], item: Value) -> int:
    if item not in target:
        raise ValueError(f"the {name_of_type(target)} does not hold what index looks for")
    return target.index(item)


def _count(target: list[Value] | tuple[Value, ...], item: Value) -> int:
    return target.count(item)


def _lower(target: str) -> str:
    return target.lower()


def _upper(target: str) -> str:
    return target.upper()


def _strip(target: str, characters: Value = None) -> str:
    return target.strip(None if characters is None else _string(characters))


def _replace(target: str, old: Value, new: Value) -> str:
    check_characters(len(target) + target.count(_string(old)) * len(_string(new)))
    return target.replace(old, new)


def _split(target: str, separator: Value = None) -> list[str]:
    return target.split(None if separator is None else _string(separator))


def _startswith(target: str, start: Value) -> bool:
    return target.startswith(_string(start))


def _endswith(target: str, end: Value) -> bool:
    return target.endswith(_string(end))


def _string(value: Value) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name_of_type(value)} is no string")
    return value


def _get(target: dict[Value, Value], key: Value, default: Value = None) -> Value:
    return target.get(key, default)


def _keys(target: dict[Value, Value]) -> list[Value]:
    return list(target)


def _values(target: dict[Value, Value]) -> list[Value]:
    return list(target.values())


def _items(target: dict[Value, Value]) -> list[Value]:
    return list(target.items())


METHODS: Final[Mapping[type, Mapping[str, Function]]] = {
    list: {
        "append": Function(_append, 1, 1),
        "count": Function(_count, 1, 1),
        "index": Function(_index, 1, 1),
        "sort": Function(_sort, 0, 0, ("reverse",)),
    },
    tuple: {"count": Function(_count, 1, 1), "index": Function(_index, 1, 1)},
    str: {
        "endswith": Function(_endswith, 1, 1),
        "lower": Function(_lower, 0, 0),
        "replace": Function(_replace, 2, 2),
        "split": Function(_split, 0, 1),
        "startswith": Function(_startswith, 1, 1),
        "strip": Function(_strip, 0, 1),
        "upper": Function(_upper, 0, 0),
    },
    dict: {
        "get": Function(_get, 1, 2),
        "items": Function(_items, 0, 0),
        "keys": Function(_keys, 0, 0),
        "values": Function(_values, 0, 0),
    },
    Array: {
        "argmax": Function(argmax_of, 0, 1, ("axis",)),
        "argmin": Function(argmin_of, 0, 1, ("axis",)),
        "max": Function(max_of, 0, 1, ("axis",)),
        "mean": Function(mean_of, 0, 1, ("axis",)),
        "min": Function(min_of, 0, 1, ("axis",)),
        "sum": Function(sum_of, 0, 1, ("axis",)),
        "tolist": Function(items_of, 0, 0),
    },
}
"""By the type of the value. `least` and `most` do not count the value itself."""

METHOD_NAMES: Final = frozenset(name for methods in METHODS.values() for name in methods)
