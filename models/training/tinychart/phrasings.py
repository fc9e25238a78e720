"""How each kind of question is put.

`{a}` and `{b}` are values' names, `{bar}` and `{bars}` what the parts of the chart are called, `{limit}` a number.
One phrasing of each kind is held out of training; all its words occur in phrasings that are trained.
"""

from typing import Final

PHRASINGS: Final[dict[str, tuple[str, ...]]] = {
    "lookup": (
        "What is the value of {a}?",
        "How much is {a}?",
        "What value does {a} have?",
        "How much is the value of {a}?",
    ),
    "max_name": (
        "Which {bar} is the largest?",
        "Which {bar} has the largest value?",
        "What is the name of the highest {bar}?",
        "Which {bar} has the highest value?",
    ),
    "max_value": (
        "What is the value of the largest {bar}?",
        "How much is the highest {bar}?",
        "What is the highest value of all {bars}?",
        "What is the largest value of all {bars}?",
    ),
    "min_name": (
        "Which {bar} is the smallest?",
        "Which {bar} has the smallest value?",
        "What is the name of the lowest {bar}?",
        "Which {bar} has the lowest value?",
    ),
    "min_value": (
        "What is the value of the smallest {bar}?",
        "How much is the lowest {bar}?",
        "What is the lowest value of all {bars}?",
        "What is the smallest value of all {bars}?",
    ),
    "sum_two": (
        "What is the sum of {a} and {b}?",
        "How much are {a} and {b} together?",
        "What is {a} plus {b}?",
        "What is the total of {a} and {b}?",
    ),
    "sum_all": (
        "What is the sum of all {bars}?",
        "What is the total of all {bars}?",
        "How much are all {bars} together?",
        "What is the total value of all {bars} together?",
    ),
    "sum_largest": (
        "What is the sum of the two largest {bars}?",
        "What is the total of the two highest {bars}?",
        "How much are the two largest {bars} together?",
        "What is the sum of the two highest {bars}?",
    ),
    "difference": (
        "What is the difference between {a} and {b}?",
        "How much larger is {a} than {b}?",
        "What is {a} minus {b}?",
        "How much greater is {a} than {b}?",
    ),
    "range": (
        "What is the difference between the largest and the smallest {bar}?",
        "How much larger is the largest {bar} than the smallest?",
        "What is the highest {bar} minus the lowest?",
        "What is the difference between the highest and the lowest {bar}?",
    ),
    "mean": (
        "What is the mean of all {bars}?",
        "What is the average of all {bars}?",
        "How much are all {bars} on average?",
        "What is the average value of all {bars}?",
    ),
    "ratio": (
        "What is the ratio of {a} to {b}?",
        "What is {a} divided by {b}?",
        "What is the ratio between {a} and {b}?",
        "How much is {a} divided by {b}?",
    ),
    "count": (
        "How many {bars} are above {limit}?",
        "How many {bars} are greater than {limit}?",
        "What is the number of {bars} above {limit}?",
        "How many {bars} are larger than {limit}?",
    ),
    "compare": (
        "Is {a} greater than {b}?",
        "Is {a} above {b}?",
        "Is the value of {a} larger than {b}?",
        "Is {a} larger than {b}?",
    ),
}

HELD_OUT: Final = {kind: len(phrasings) - 1 for kind, phrasings in PHRASINGS.items()} | {
    "sum_two": 0,
    "sum_all": 0,
    "count": 1,
}
"""The number of the phrasing that is held out: the last, but for kinds whose last has no word for which the published
rule asks for a program. It sends "total" and "larger" to the direct answer, and no small network adds in its head."""
