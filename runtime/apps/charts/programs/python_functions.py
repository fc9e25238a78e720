"""The functions of Python that programs may call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tm_export.runtime.apps.charts.programs.function import Function
from tm_export.runtime.apps.charts.programs.limits import MOST_ELEMENTS, check_bits, check_digits, check_elements
from tm_export.runtime.apps.charts.programs.values import (
    Array,
    Distinct,
    Number,
    Value,
    dict_of,
    elementwise,
    is_number,
    is_scalar,
    items_of,
    name_of_type,
    set_of,
    truth,
)


def number(value: Value) -> Number:
    """The value, which is a number.

    Raises:
        TypeError: it is none.
    """
    if not is_number(value):
        raise TypeError(f"{name_of_type(value)} is no number")
    return value  # type: ignore[no-any-return]


def integer(value: Value) -> int:
    """The value, which is an integer.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, int):
        raise TypeError(f"{name_of_type(value)} is no integer")
    return value


def rounded(value: Number, digits: int | None) -> Number:
    """Python's rounding: half to even, of the value that the float has exactly.

    Raises:
        ArithmeticError, ValueError: an integer is asked for, and it is not finite.
        ProgramRefused: so many digits are more than there are.
    """
    if digits is not None:
        check_digits(integer(digits))
    return round(number(value), digits)


def _abs(value: Value) -> Value:
    return elementwise(lambda one: abs(number(one)), value) if isinstance(value, Array) else abs(number(value))


def _round(value: Value, ndigits: Value = None) -> Value:
    return rounded(value, ndigits)


def _compared(arguments: tuple[Value, ...]) -> list[Value]:
    return items_of(arguments[0]) if len(arguments) == 1 else list(arguments)


def _min(*arguments: Value) -> Value:
    return min(_compared(arguments))


def _max(*arguments: Value) -> Value:
    return max(_compared(arguments))


def _sum(values: Value, start: Value = 0) -> Value:
    return sum((number(value) for value in items_of(values)), number(start))


def _len(value: Value) -> int:
    return len(items_of(value))


def _sorted(values: Value, *, reverse: Value = False) -> list[Value]:
    return sorted(items_of(values), reverse=truth(reverse))


def _int(value: Value = 0) -> int:
    result = int(_convertible(value))
    check_bits(result.bit_length())
    return result


def _float(value: Value = 0.0) -> float:
    return float(_convertible(value))


def _convertible(value: Value) -> Number | str:
    if isinstance(value, str) and not value.isascii():
        raise ValueError(f"{value!r} is no number")
    if not is_scalar(value):
        raise TypeError(f"{name_of_type(value)} is no number")
    return value  # type: ignore[no-any-return]


def _str(value: Value = "") -> str:
    if value is not None and not is_scalar(value):
        raise TypeError(f"{name_of_type(value)} cannot be made a string")
    return str(value)


def _bool(value: Value = False) -> bool:
    return truth(value)


def _list(values: Value = ()) -> list[Value]:
    return items_of(values)


def _tuple(values: Value = ()) -> tuple[Value, ...]:
    return tuple(items_of(values))


def _set(values: Value = ()) -> Distinct:
    return set_of(items_of(values))


def _dict(pairs: Value = ()) -> dict[Value, Value]:
    if isinstance(pairs, dict):
        return dict(pairs)
    made = [items_of(pair) for pair in items_of(pairs)]
    for pair in made:
        if len(pair) != 2:
            raise ValueError(f"a dict is made of pairs, not of {len(pair)} values")
    return dict_of([(key, value) for key, value in made])


def _range(*bounds: Value) -> list[int]:
    numbers = range(*(integer(bound) for bound in bounds))
    first, beyond, step = numbers.start, numbers.stop, numbers.step
    check_elements(max(0, -((first - beyond) // step)))  # len() itself fails on large ranges
    return list(numbers)


def _any(values: Value) -> bool:
    return any(truth(value) for value in items_of(values))


def _all(values: Value) -> bool:
    return all(truth(value) for value in items_of(values))


def _zip(*columns: Value) -> list[Value]:
    return list(zip(*(items_of(column) for column in columns), strict=False))


def _enumerate(values: Value, start: Value = 0) -> list[Value]:
    return list(enumerate(items_of(values), integer(start)))


def _reversed(values: Value) -> list[Value]:
    return items_of(values)[::-1]


PYTHON_FUNCTIONS: Final[Mapping[str, Function]] = {
    "abs": Function(_abs, 1, 1),
    "all": Function(_all, 1, 1),
    "any": Function(_any, 1, 1),
    "bool": Function(_bool, 0, 1),
    "dict": Function(_dict, 0, 1),
    "enumerate": Function(_enumerate, 1, 2, ("start",)),
    "float": Function(_float, 0, 1),
    "int": Function(_int, 0, 1),
    "len": Function(_len, 1, 1),
    "list": Function(_list, 0, 1),
    "max": Function(_max, 1, MOST_ELEMENTS),
    "min": Function(_min, 1, MOST_ELEMENTS),
    "range": Function(_range, 1, 3),
    "reversed": Function(_reversed, 1, 1),
    "round": Function(_round, 1, 2, ("ndigits",)),
    "set": Function(_set, 0, 1),
    "sorted": Function(_sorted, 1, 1, ("reverse",)),
    "str": Function(_str, 0, 1),
    "sum": Function(_sum, 1, 2, ("start",)),
    "tuple": Function(_tuple, 0, 1),
    "zip": Function(_zip, 1, MOST_ELEMENTS),
}
