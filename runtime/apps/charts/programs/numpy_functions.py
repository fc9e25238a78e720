"""The functions and constants of NumPy that programs may use, as `np.sum` or `numpy.sum`, on numbers and one dimension.

Sums go from left to right. Integers are exact where NumPy's wrap around at 64 bits. Python's errors stand where NumPy
warns and goes on with infinity or NaN (np.log of 0, an empty np.mean): the answer would be refused as not finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from itertools import accumulate, groupby, pairwise
from typing import Final

from tm_export.runtime.apps.charts.programs.arithmetic import of_elements, of_numbers
from tm_export.runtime.apps.charts.programs.comparison import of_scalars
from tm_export.runtime.apps.charts.programs.function import Function
from tm_export.runtime.apps.charts.programs.limits import check_digits
from tm_export.runtime.apps.charts.programs.python_functions import integer, number, rounded
from tm_export.runtime.apps.charts.programs.values import Array, Number, Value, array_of, elementwise


def sum_of(values: Value, axis: Value = None) -> Value:
    """np.sum."""
    return sum(_numbers(values, axis))


def mean_of(values: Value, axis: Value = None) -> Value:
    """np.mean, np.average."""
    return _mean(_numbers(values, axis))


def max_of(values: Value, axis: Value = None) -> Value:
    """np.max, np.amax."""
    return max(_ordered_numbers(values, axis))


def min_of(values: Value, axis: Value = None) -> Value:
    """np.min, np.amin."""
    return min(_ordered_numbers(values, axis))


def argmax_of(values: Value, axis: Value = None) -> int:
    """np.argmax: the first place of the greatest."""
    numbers = _ordered_numbers(values, axis)
    return numbers.index(max(numbers))


def argmin_of(values: Value, axis: Value = None) -> int:
    """np.argmin: the first place of the least."""
    numbers = _ordered_numbers(values, axis)
    return numbers.index(min(numbers))


def _numbers(values: Value, axis: Value = None) -> list[Number]:
    """The numbers of a collection, or of one number, along its only axis."""
    if axis is not None and integer(axis) not in (0, -1):
        raise ValueError(f"an array of one dimension has no axis {axis}")
    return [number(item) for item in array_of(values).items]


def _ordered(values: Value, axis: Value = None) -> list[Value]:
    """Scalars that can be sorted: NaN, which NumPy sorts last, is an error here."""
    if axis is not None and integer(axis) not in (0, -1):
        raise ValueError(f"an array of one dimension has no axis {axis}")
    items = list(array_of(values).items)
    if any(item != item for item in items):
        raise ValueError("nan has no place in an order")
    return items


def _ordered_numbers(values: Value, axis: Value = None) -> list[Number]:
    return [number(item) for item in _ordered(values, axis)]


def _mean(numbers: list[Number]) -> float:
    if not numbers:
        raise ValueError("no numbers have no mean")
    return sum(numbers) / len(numbers)


def _median(values: Value, axis: Value = None) -> float:
    numbers = sorted(_ordered_numbers(values, axis))
    middle = len(numbers) // 2
    return _mean(numbers[middle : middle + 1] if len(numbers) % 2 else numbers[middle - 1 : middle + 1])


def _var(values: Value, axis: Value = None, *, ddof: Value = 0) -> float:
    numbers = _numbers(values, axis)
    mean = _mean(numbers)
    return sum((one - mean) * (one - mean) for one in numbers) / (len(numbers) - number(ddof))


def _std(values: Value, axis: Value = None, *, ddof: Value = 0) -> float:
    return math.sqrt(_var(values, axis, ddof=ddof))


def _ptp(values: Value, axis: Value = None) -> Value:
    return max_of(values, axis) - min_of(values, axis)


def _prod(values: Value, axis: Value = None) -> Value:
    product: Number = 1
    for one in _numbers(values, axis):
        product = of_numbers("*", product, one)
    return product


def _count_nonzero(values: Value, axis: Value = None) -> int:
    return sum(one != 0 for one in _numbers(values, axis))


def _any(values: Value, axis: Value = None) -> bool:
    return any(_numbers(values, axis))


def _all(values: Value, axis: Value = None) -> bool:
    return all(_numbers(values, axis))


def _array(values: Value) -> Value:
    return array_of(values) if isinstance(values, list | tuple | Array) else array_of(values).items[0]


def _sort(values: Value, axis: Value = None) -> Array:
    return array_of(sorted(_ordered(values, axis)))


def _argsort(values: Value, axis: Value = None) -> Array:
    items = _ordered(values, axis)
    places: list[int] = sorted(range(len(items)), key=lambda place: items[place])
    return Array(tuple(places))


def _unique(values: Value) -> Array:
    return array_of([item for item, _ in groupby(sorted(_ordered(values)))])


def _cumsum(values: Value, axis: Value = None) -> Array:
    return array_of(list(accumulate(_numbers(values, axis), partial(of_numbers, "+"))))


def _diff(values: Value) -> Array:
    numbers = _numbers(values)
    return array_of([of_numbers("-", after, before) for before, after in pairwise(numbers)])


def _where(condition: Value, *choices: Value) -> Value:
    if len(choices) == 2:
        return elementwise(lambda chosen, one, other: one if chosen else other, condition, *choices)
    if choices:
        raise TypeError("np.where takes 1 or 3 arguments, not 2")
    return (Array(tuple(place for place, item in enumerate(array_of(condition).items) if item)),)


def _round(values: Value, decimals: Value = 0) -> Value:
    check_digits(integer(decimals))
    return elementwise(lambda one: _scaled_round(number(one), decimals), values)


def _scaled_round(value: Number, decimals: int) -> Number:
    """NumPy's rounding: to a whole number, half to even, of the value times a power of ten."""
    if isinstance(value, int):
        return rounded(value, min(decimals, 0))
    power = 10.0 ** abs(decimals)
    scaled = value * power if decimals >= 0 else value / power
    whole = float(round(scaled)) if math.isfinite(scaled) else scaled
    return whole / power if decimals >= 0 else whole * power


def _binary(sign: str) -> Function:
    return Function(partial(elementwise, partial(of_elements, sign)), 2, 2)


def _comparison(sign: str) -> Function:
    return Function(partial(elementwise, partial(of_scalars, sign)), 2, 2)


def _of_number(function: Callable[[Number], Value]) -> Function:
    return Function(partial(elementwise, lambda one: function(number(one))), 1, 1)


def _of_numbers(function: Callable[[Number, Number], Value]) -> Function:
    return Function(partial(elementwise, lambda one, other: function(number(one), number(other))), 2, 2)


def _reduction(function: Callable[..., Value], *keywords: str) -> Function:
    return Function(function, 1, 2, ("axis", *keywords))


NUMPY_FUNCTIONS: Final[Mapping[str, Function]] = {
    "abs": _of_number(abs),
    "absolute": _of_number(abs),
    "add": _binary("+"),
    "all": _reduction(_all),
    "amax": _reduction(max_of),
    "amin": _reduction(min_of),
    "any": _reduction(_any),
    "argmax": _reduction(argmax_of),
    "argmin": _reduction(argmin_of),
    "argsort": _reduction(_argsort),
    "around": Function(_round, 1, 2, ("decimals",)),
    "array": Function(_array, 1, 1),
    "average": _reduction(mean_of),
    "ceil": _of_number(lambda one: one if isinstance(one, int) else float(math.ceil(one))),
    "count_nonzero": _reduction(_count_nonzero),
    "cumsum": _reduction(_cumsum),
    "diff": Function(_diff, 1, 1),
    "divide": _binary("/"),
    "equal": _comparison("=="),
    "exp": _of_number(math.exp),
    "floor": _of_number(lambda one: one if isinstance(one, int) else float(math.floor(one))),
    "floor_divide": _binary("//"),
    "greater": _comparison(">"),
    "greater_equal": _comparison(">="),
    "less": _comparison("<"),
    "less_equal": _comparison("<="),
    "log": _of_number(math.log),
    "log10": _of_number(math.log10),
    "logical_and": _of_numbers(lambda one, other: bool(one) and bool(other)),
    "logical_not": _of_number(lambda one: not one),
    "logical_or": _of_numbers(lambda one, other: bool(one) or bool(other)),
    "max": _reduction(max_of),
    "maximum": _of_numbers(lambda one, other: max_of([one, other])),
    "mean": _reduction(mean_of),
    "median": _reduction(_median),
    "min": _reduction(min_of),
    "minimum": _of_numbers(lambda one, other: min_of([one, other])),
    "mod": _binary("%"),
    "multiply": _binary("*"),
    "not_equal": _comparison("!="),
    "power": _binary("**"),
    "prod": _reduction(_prod),
    "ptp": _reduction(_ptp),
    "round": Function(_round, 1, 2, ("decimals",)),
    "sort": _reduction(_sort),
    "sqrt": _of_number(math.sqrt),
    "square": _of_number(lambda one: of_numbers("*", one, one)),
    "std": _reduction(_std, "ddof"),
    "subtract": _binary("-"),
    "sum": _reduction(sum_of),
    "unique": Function(_unique, 1, 1),
    "var": _reduction(_var, "ddof"),
    "where": Function(_where, 1, 3),
}

NUMPY_CONSTANTS: Final[Mapping[str, float]] = {"e": math.e, "inf": math.inf, "nan": math.nan, "pi": math.pi}
