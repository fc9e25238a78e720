"""The operators `+ - * / // % ** & |` and the signs, on numbers, arrays, strings, lists and tuples."""

from __future__ import annotations

import math
from functools import partial

from tm_export.runtime.apps.charts.programs.limits import check_bits, check_characters, check_elements
from tm_export.runtime.apps.charts.programs.values import Array, Number, Value, elementwise, is_number, name_of_type


def binary(sign: str, left: Value, right: Value) -> Value:
    """left sign right, as Python has it, and NumPy if one of them is an array.

    Raises:
        ArithmeticError, TypeError, ValueError: it has no value.
        ProgramRefused: it is too large, which is known before it is made.
    """
    if isinstance(left, Array) or isinstance(right, Array):
        return elementwise(partial(of_elements, sign), left, right)
    if is_number(left) and is_number(right):
        return of_numbers(sign, left, right)
    if sign == "+" and type(left) is type(right) and isinstance(left, str | list | tuple):
        _check_length(left, len(left) + len(right))
        return left + right
    if sign == "*" and isinstance(left, int) and isinstance(right, str | list | tuple):
        left, right = right, left
    if sign == "*" and isinstance(left, str | list | tuple) and isinstance(right, int):
        _check_length(left, len(left) * right)
        return left * right
    raise TypeError(f"{sign} does not go with {name_of_type(left)} and {name_of_type(right)}")


def of_numbers(sign: str, left: Value, right: Value) -> Number:
    """left sign right of two numbers, as in Python; `&` and `|` are of booleans only.

    Raises:
        ArithmeticError, TypeError, ValueError: it has no value, or none that is real.
        ProgramRefused: it is too large an integer.
    """
    if not (is_number(left) and is_number(right)):
        raise TypeError(f"{sign} does not go with {name_of_type(left)} and {name_of_type(right)}")
    if sign in ("&", "|"):
        if not (isinstance(left, bool) and isinstance(right, bool)):
            raise TypeError(f"{sign} goes with booleans only, not {name_of_type(left)} and {name_of_type(right)}")
        return left and right if sign == "&" else left or right
    result: Value
    match sign:
        case "+":
            result = left + right
        case "-":
            result = left - right
        case "*":
            if isinstance(left, int) and isinstance(right, int):
                check_bits(left.bit_length() + right.bit_length() - 1)
            result = left * right
        case "/":
            result = left / right
        case "//":
            result = left // right
        case "%":
            result = left % right
        case _:
            result = _power(left, right)
    if isinstance(result, int):
        check_bits(result.bit_length())
    return result  # type: ignore[no-any-return]


def of_elements(sign: str, left: Value, right: Value) -> Number:
    """left sign right of two elements of arrays, as in NumPy: a division by zero is infinite, booleans stay booleans.

    Raises:
        ArithmeticError, TypeError, ValueError, ProgramRefused: as `of_numbers`.
    """
    if isinstance(left, bool) and isinstance(right, bool):
        if sign == "-":
            raise TypeError("- does not go with booleans in arrays")
        sign = {"+": "|", "*": "&"}.get(sign, sign)
    if sign == "/" and is_number(left) and is_number(right) and right == 0:
        if left == 0 or math.isnan(left):
            return math.nan
        return math.copysign(1, left) * math.copysign(math.inf, right)
    return of_numbers(sign, left, right)


def signed(sign: str, operand: Value) -> Value:
    """+operand or -operand.

    Raises:
        TypeError: it is neither a number nor an array of numbers.
    """
    return elementwise(partial(_signed, sign), operand) if isinstance(operand, Array) else _signed(sign, operand)


def _signed(sign: str, operand: Value) -> Value:
    if not is_number(operand):
        raise TypeError(f"{sign} does not go with {name_of_type(operand)}")
    return -operand if sign == "-" else +operand


def _power(base: Number, exponent: Number) -> Value:
    if isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1:
        check_bits((abs(base).bit_length() - 1) * exponent)  # of the least number that has as many bits as the base
    result: Value = base**exponent
    if isinstance(result, complex):
        raise ValueError(f"{base} ** {exponent} is not real")
    return result


def _check_length(made: Value, length: int) -> None:
    if isinstance(made, str):
        check_characters(length)
    else:
        check_elements(length)
