"""`value[index]`: of strings, lists, tuples, dicts and arrays."""

from __future__ import annotations

from tm_export.runtime.apps.charts.programs.values import Array, Value, array_of, is_scalar, name_of_type


def element(value: Value, index: Value) -> Value:
    """The element, or for a slice, or an array as index of an array, those elements.

    Raises:
        LookupError: there is none.
        TypeError: it cannot be looked up so.
        ValueError: the step of a slice is 0.
    """
    if isinstance(value, Array):
        return _of_array(value, index)
    if isinstance(value, dict):
        if index not in value:
            key = repr(index) if is_scalar(index) else f"that is this {name_of_type(index)}"
            raise LookupError(f"the dict has no key {key}")
        return value[index]
    if not isinstance(value, str | list | tuple) or not isinstance(index, int | slice):
        raise TypeError(f"{name_of_type(value)} has no elements that {name_of_type(index)} can look up")
    return value[index]


def _of_array(array: Array, index: Value) -> Value:
    if isinstance(index, slice):
        return Array(array.items[index])
    if isinstance(index, tuple) and len(index) == 1:  # what np.where gives
        (index,) = index
    if isinstance(index, int) and not isinstance(index, bool):
        return array.items[index]
    if not isinstance(index, list | Array):
        raise TypeError(f"array has no elements that {name_of_type(index)} can look up")
    places = array_of(index).items
    if places and all(isinstance(place, bool) for place in places):
        if len(places) != len(array.items):
            raise IndexError(f"{len(places)} booleans cannot choose among {len(array.items)} elements")
        return Array(tuple(item for item, chosen in zip(array.items, places, strict=True) if chosen))
    chosen_items = []
    for place in places:
        if not isinstance(place, int):
            raise TypeError(f"array has no elements that {name_of_type(place)} can look up")
        chosen_items.append(array.items[place])
    return Array(tuple(chosen_items))
