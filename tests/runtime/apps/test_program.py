"""Programs give what Python and NumPy give, which are asked directly: by eval of text that is written here."""

import ast
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tm_export.runtime.apps.charts.programs import limits
from tm_export.runtime.apps.charts.programs.errors import NoProgram, ProgramFailed, ProgramRefused
from tm_export.runtime.apps.charts.programs.function import Function
from tm_export.runtime.apps.charts.programs.limits import MOST_ELEMENTS, Meter
from tm_export.runtime.apps.charts.programs.methods import METHODS
from tm_export.runtime.apps.charts.programs.numpy_functions import NUMPY_CONSTANTS, NUMPY_FUNCTIONS
from tm_export.runtime.apps.charts.programs.program import run_program
from tm_export.runtime.apps.charts.programs.program_answer import program_answer
from tm_export.runtime.apps.charts.programs.program_lines import program_lines
from tm_export.runtime.apps.charts.programs.python_functions import PYTHON_FUNCTIONS
from tm_export.runtime.apps.charts.programs.values import Array, Distinct, name_of_type

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "programs.md").read_text()

# For each function, arguments to call it with.
NUMBERS = ("[3, 1, 2]", "[2.5, -1.25, 7.0, 2.5]", "np.array([4, 0, 9, 9])", "(1, 2.5)", "[True, False, True]", "5")
OF_NUMBERS = tuple((values,) for values in NUMBERS)
ORDERED = (
    *OF_NUMBERS[:5],
    ("[3, 1, 2]", "0"),
    ("[3, 1, 2]", "axis=0"),
    ("[3, 1, 2]", "axis=-1"),
    ("[3, 1]", "axis=None"),
)
PAIRS = (
    ("7", "2"),
    ("[7, -7]", "[2, 2]"),
    ("[7.5, -7.5]", "2"),
    ("np.array([1, 2, 3])", "[4, 5, 6]"),
    ("[5]", "[1, 2]"),
)
POSITIVE = (("[3, 1, 2]",), ("[0.5, 4.0]",), ("2",), ("np.array([1, 9])",))
ROUNDED = (
    ("[2.675, 0.125, -1.5, 2.5]",),
    ("2.675", "2"),
    ("[1.005, 123.456]", "decimals=1"),
    ("1234.5", "-2"),
    ("[15, 25]", "-1"),
)
NUMPY_CALLS: dict[str, tuple[tuple[str, ...], ...]] = {
    **dict.fromkeys(("abs", "absolute"), OF_NUMBERS[:4]),
    **dict.fromkeys(("add", "multiply", "divide", "floor_divide", "mod", "maximum", "minimum"), PAIRS),
    **dict.fromkeys(
        ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"), (*PAIRS, ("['a']", "'a'"))
    ),
    **dict.fromkeys(("logical_and", "logical_or"), (*PAIRS, ("[0, 1]", "[1, 1]"), ("[0.0, 1.5]", "True"))),
    **dict.fromkeys(("sum", "mean", "average", "max", "amax", "min", "amin", "median", "std", "var"), ORDERED),
    **dict.fromkeys(("argmax", "argmin", "argsort", "sort", "cumsum", "prod", "any", "all", "count_nonzero"), ORDERED),
    **dict.fromkeys(("around", "round"), ROUNDED),
    **dict.fromkeys(("log", "log10", "sqrt", "exp"), POSITIVE),
    **dict.fromkeys(("floor", "ceil"), (*POSITIVE, ("[-1.5, 1.5]",))),
    "array": (*OF_NUMBERS, ("['a', 'b']",), ("['a', 1, 2.5, True]",), ("[1, True]",), ("[]",)),
    "diff": (("[3, 1, 2]",), ("[1.5]",), ("[]",)),
    "logical_not": (("[0, 1]",), ("0",), ("[True]",)),
    "power": (("[2, 3]", "2"), ("2.0", "[0.5, -1]"), ("3", "4")),
    "ptp": OF_NUMBERS[:4],
    "square": OF_NUMBERS[:4],
    "subtract": (*PAIRS, ("[]", "[1]")),
    "unique": (("[3, 1, 3, 2]",), ("['b', 'a', 'b']",), ("[2.5, 1]",), ("[]",)),
    "where": (
        ("[True, False, True]",),
        ("np.array([1, 5, 9]) > 3",),
        ("np.array([1, 5]) > 3", "[1, 2]", "0.5"),
        ("[1, 0]", "'a'", "'b'"),
    ),
}
NUMPY_CALLS["std"] += (("[1, 2, 4]", "ddof=1"),)
NUMPY_CALLS["var"] += (("[1, 2, 4]", "ddof=1"),)

ITEMS = ("[3, 1, 2]", "(2.5, 1)", "'bca'", "{'k': 1}", "np.array([2, 1])")
PYTHON_CALLS: dict[str, tuple[tuple[str, ...], ...]] = {
    "abs": (("-3",), ("-2.5",), ("True",), ("np.array([-1, 2])",)),
    "all": (("[1, 0]",), ("[]",), ("'a'",), ("np.array([1, 1])",)),
    "any": (("[0, 0]",), ("[]",), ("(0, 'a')",), ("np.array([0, 1])",)),
    "bool": ((), ("0",), ("'a'",), ("[]",), ("np.array([0])",), ("set([1])",)),
    "dict": ((), ("[('a', 1), ['b', 2]]",), ("zip(['a', 'b'], [1, 2])",), ("{'a': 1}",)),
    "float": ((), ("3",), ("' 2.5 '",), ("'1e3'",), ("True",)),
    "int": ((), ("3.9",), ("-3.9",), ("' 12 '",), ("True",), ("'1_000'",)),
    "len": tuple((items,) for items in (*ITEMS, "[]", "set([1, 1])")),
    "list": ((), *((items,) for items in ITEMS)),
    "max": (*((items,) for items in ITEMS), ("1", "2.5"), ("'a'", "'b'"), ("[1, 2]", "[1, 3]")),
    "min": (*((items,) for items in ITEMS), ("1", "2.5"), ("'a'", "'b'"), ("3", "2", "1")),
    "round": (
        ("2.5",),
        ("2.675", "2"),
        ("1234", "-2"),
        ("3.14159", "ndigits=3"),
        ("7", "2"),
        ("-0.5",),
        ("2.5", "None"),
    ),
    "set": ((), ("[3, 1, 3]",), ("'aab'",)),
    "sorted": (*((items,) for items in ITEMS), ("[3, 1, 2]", "reverse=True"), ("set([2, 1])",)),
    "str": ((), ("1.0",), ("1e16",), ("None",), ("True",), ("'a'",), ("12",)),
    "sum": (("[1, 2.5]",), ("(True, True)",), ("[]",), ("[1]", "10"), ("[1]", "start=0.5"), ("x for x in [1, 2]",)),
    "tuple": ((), *((items,) for items in ITEMS)),
}
LAZY_CALLS: dict[str, tuple[tuple[str, ...], ...]] = {
    "enumerate": (("'ab'",), ("[5]", "1"), ("[5]", "start=2")),
    "range": (("3",), ("1", "7", "2"), ("5", "1", "-2"), ("3", "1"), ("True",), ("10", "0", "-3"), ("0", "10", "3")),
    "reversed": (("[1, 2]",), ("'ab'",)),
    "zip": (("[1, 2]",), ("'abc'", "[1, 2]"), ("[1]", "(2,)", "'c'")),
}
"""Those whose results are lists here."""

METHOD_CALLS = {
    "list": (
        *("[1, 2, 1].count(1)", "[1, 2, 1].index(2)", "['a'].index('a')"),
        *("[1].append(2)", "[2, 1].sort()", "[1].sort(reverse=True)"),
    ),
    "tuple": ("(1, 2, 1).count(1)", "(1, 2, 1).index(2)"),
    "str": (
        *("'aB'.lower()", "'aB'.upper()", "' a '.strip()", "'xax'.strip('x')", "'a-b'.replace('-', '+')"),
        *("'ab'.replace('', '-')", "'a b  c'.split()", "'a,b'.split(',')"),
        *("'ab'.startswith('a')", "'ab'.endswith('a')"),
    ),
    "dict": (
        *("{'a': 1}.get('a')", "{'a': 1}.get('b')", "{'a': 1}.get('b', 2)"),
        *("{'a': 1}.keys()", "{'a': 1}.values()", "{'a': 1}.items()"),
    ),
    "array": (
        *(f"np.array([3, 1.5, 2]).{call}()" for call in ("argmax", "argmin", "max", "min", "mean", "sum", "tolist")),
        *("np.array([3, 1]).sum(axis=0)", "np.array([3, 1]).sum(0)"),
    ),
}  # fmt: skip


def value_of(*steps: str) -> Any:
    return run_program(steps)


def plain(value: Any) -> Any:
    """Of ours or of NumPy's: lists for arrays, Python's numbers for NumPy's."""
    if isinstance(value, Array):
        return ["array", *(plain(item) for item in value.items)]
    if isinstance(value, np.ndarray) and value.ndim:
        return ["array", *value.tolist()]
    if isinstance(value, Distinct):
        return set(value.members)
    if isinstance(value, np.generic | np.ndarray):
        return value.item()
    if isinstance(value, tuple | list):
        return type(value)(plain(item) for item in value)
    return value


def same(ours: Any, theirs: Any) -> bool:
    """Equal in type and value, but for the last digits of floats."""
    if isinstance(ours, list | tuple) and type(ours) is type(theirs):
        return len(ours) == len(theirs) and all(same(one, other) for one, other in zip(ours, theirs, strict=True))
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-12, abs_tol=1e-15) or (math.isnan(ours) and math.isnan(theirs))
    return type(ours) is type(theirs) and bool(ours == theirs)


def assert_same_as_python(expression: str) -> None:
    ours, theirs = plain(value_of(f"Answer={expression}")), plain(eval(expression, {"np": np}))
    assert same(ours, theirs), f"{expression} is {theirs}, not {ours}"


# Lines of the model's text.


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("<comment>#Bars</comment>\n<step>Y=[1]</step>\n<step>Answer=Y[0]</step>", ("Y=[1]", "Answer=Y[0]")),
        ("<comment>#Bars</comment><step>Y=[1]</step><step>Answer=Y[0]</step>", ("Y=[1]", "Answer=Y[0]")),
        ("  <step>  Y=[1]\t</step>  \r\n <step>Answer=1 </step>\n", ("Y=[1]", "Answer=1")),
        ("<step>Y=[1]\n<step>Answer=1</step>", ("Y=[1]", "Answer=1")),
        ("<step>Y=[1]<step>Answer=1</step>", ("Y=[1]", "Answer=1")),
        ("<step>Y=[1]<comment>#x</comment>\nAnswer=1</step>", ("Y=[1]", "Answer=1")),
        ("Sure!\n<step>Answer=1</step>\nThat is it.", ("Answer=1",)),
        ("<step>Answer=1</step>\n<step>Answer=12", ("Answer=1",)),
        ("<step>Answer=1</step>\n<step></step><step> </step>", ("Answer=1",)),
        ("<comment>#Y=[1]</comment> <step>Answer='</div>'</step>", ("Answer='</div>'",)),
    ],
)
def test_lines_are_found_between_tags(text: str, lines: tuple[str, ...]) -> None:
    assert program_lines(text) == lines


@pytest.mark.parametrize(
    "text", ["", "12", "<comment>#x</comment>", "<step>Answer=12", "<step> </step>", "</comment>x</step"]
)
def test_text_without_a_complete_step_has_no_program(text: str) -> None:
    with pytest.raises(NoProgram, match="detailed steps"):
        program_lines(text)


# Whole programs, as TinyChart writes them.


@pytest.mark.parametrize(
    ("steps", "answer"),
    [
        (("Y=[12, 5, 9]", "Answer=np.sum(Y)"), "26"),
        (("X=['2019', '2020']", "Y=[3.5, 1.25]", "Answer=X[np.argmin(Y)]"), "2020"),
        (("A=61.5", "B=44.2", "Answer=np.subtract(A, B)"), "17.3"),
        (("Y=[12, 31, 44]", "Answer=np.median(Y)", "Answer=Answer>30"), "Yes"),
        (("Y=[12, 31, 44]", "Answer=np.greater(np.mean(Y), 40)"), "No"),
        (("Y=np.array([1, 5, 9])", "X=np.array(['a', 'b', 'c'])", "Answer=X[Y>3]"), "b and c"),
        (("Y=np.array([1, 5, 9])", "X=np.array(['a', 'b', 'c'])", "Answer=X[np.where(Y==5)]"), "b"),
        (("Y=np.array([1, 5, 9])", "Answer=np.count_nonzero(Y-3>0)"), "2"),
        (("Y=[1, 5, 9]", "Answer=len([y for y in Y if y>3])"), "2"),
        (("d={'a': 3, 'b': 4}", "Answer=[k for k, v in d.items() if v==max(d.values())]"), "b"),
        (("colors=['red', 'blue', 'red']", "Answer=len(set(colors))"), "2"),
        (("Y=[3, 1, 2]", "Y.sort()", "Y.append(9)", "a, b=Y[0], Y[-1]", "Answer=b/a"), "9"),
        (("x=1; x+=2  # three", "Answer=x**2 if x!=2 else 0"), "9"),
        (("Y=[40, 35]", "Answer=abs(Y[0]-Y[1])/Y[0]*100"), "12.5"),
        (("X=[\"Côte d'Ivoire\", 'a\\'b']", "Answer=X[0]"), "Côte d'Ivoire"),
        (("Y=[1, 2, 3]", "Answer=np.divide(np.sum(Y), len(Y))"), "2"),
        (("a=b=2", "Answer=(a==b) & (a<3)"), "Yes"),
        (("max=np.max([1, 7])", "Answer=max"), "7"),
        (("\tx\t=\t1 ", "Answer =\tx"), "1"),
    ],
)
def test_a_program_gives_its_answer(steps: tuple[str, ...], answer: str) -> None:
    assert program_answer("\n".join(f"<comment>#x</comment><step>{step}</step>" for step in steps)) == answer


def test_the_message_says_which_step_and_why() -> None:
    with pytest.raises(ProgramFailed, match=r"^step 2: division by zero$"):
        value_of("x=1", "Answer=x/0")
    with pytest.raises(ProgramRefused, match=r"^step 1: the function np\.load is not allowed$"):
        value_of("Answer=np.load('x')")
    with pytest.raises(ProgramRefused, match=f"^step 1: a collection has more than {MOST_ELEMENTS} elements$"):
        value_of("Answer=[0]*10**9")
    with pytest.raises(ProgramFailed, match=r"^no step assigns Answer$"):
        value_of("answer=1")


def test_all_steps_are_checked_before_one_is_run() -> None:
    with pytest.raises(ProgramRefused, match="step 2"):
        value_of("x=1/0", "import os")


# Each function, against Python's and NumPy's own.


def calls_of(table: dict[str, tuple[tuple[str, ...], ...]], prefix: str = "") -> list[str]:
    return [f"{prefix}{name}({', '.join(arguments)})" for name, calls in table.items() for arguments in calls]


@pytest.mark.parametrize("expression", calls_of(NUMPY_CALLS, "np."))
def test_a_function_of_numpy_gives_what_numpy_gives(expression: str) -> None:
    assert_same_as_python(expression)


@pytest.mark.parametrize("expression", calls_of(PYTHON_CALLS))
def test_a_function_of_python_gives_what_python_gives(expression: str) -> None:
    assert_same_as_python(expression)


@pytest.mark.parametrize("expression", calls_of(LAZY_CALLS))
def test_a_lazy_function_of_python_gives_its_list(expression: str) -> None:
    assert value_of(f"Answer={expression}") == list(eval(expression))


@pytest.mark.parametrize("expression", [call for calls in METHOD_CALLS.values() for call in calls])
def test_a_method_gives_what_python_and_numpy_give(expression: str) -> None:
    ours, theirs = plain(value_of(f"Answer={expression}")), plain(eval(expression, {"np": np}))
    assert same(ours, list(theirs) if expression.startswith("{") and not isinstance(theirs, int | None) else theirs)


def test_no_function_is_left_out() -> None:
    assert set(NUMPY_CALLS) == set(NUMPY_FUNCTIONS)
    assert set(PYTHON_CALLS) | set(LAZY_CALLS) == set(PYTHON_FUNCTIONS)
    called = {of: {re.findall(r"\.([a-z]+)\(", call)[-1] for call in calls} for of, calls in METHOD_CALLS.items()}
    assert called == {type_name(of): set(methods) for of, methods in METHODS.items()}
    assert all(value_of(f"Answer=np.{name}") is value for name, value in NUMPY_CONSTANTS.items())


def type_name(of: type) -> str:
    return name_of_type(Array(())) if of is Array else of.__name__


@pytest.mark.parametrize(
    "expression",
    [
        *("np.array([1, 2])-3", "3-np.array([1, 2])", "np.array([1, 2])*[3, 4]"),
        *("[1, 2]+np.array([1.5, 2])", "-np.array([1, 2])"),
        *("np.array([1, 2])/np.array([2, 4])", "np.array([7, -7])//2", "np.array([7, -7])%3", "np.array([2.0, 3])**2"),
        *("np.array([1, 2])>1", "np.array([1, 2])==[1, 3]", "np.array(['a', 'b'])=='a'"),
        *("1<=np.array([0, 1])", "np.array([1])!=1"),
        *("(np.array([1, 5])>2)&(np.array([1, 5])<9)", "(np.array([1, 5])>2)|np.array([True, False])"),
        *("np.array([True, True])+np.array([True, False])", "np.array([True, True])*np.array([True, False])"),
        *("np.array([1, 2, 3])[1:]", "np.array([1, 2, 3])[-1]", "np.array([1, 2, 3])[[0, 2]]"),
        "np.array([1, 2, 3])[::-1]",
        *("np.array([1, 2, 3])[np.array([True, False, True])]", "2 in np.array([1, 2])", "'c' in np.array(['a'])"),
        *("[x*2 for x in np.array([1, 2])]", "5 if np.array([1]) else 6"),
        *("np.array([1, 2])+True", "np.array([1])+np.array([1, 2])"),
        *("np.array([5])-[1]", "np.pi*2", "+np.array([1.5])", "[1, 2]*2+[3]"),
        *("'a'*2+'b'", "(1,)*2", "3*'ab'", "[1]*-1", "'a' 'b'"),
        *("{1: 2}=={1: 2}", "{1, 2}=={2, 1}", "(1, 2)<(1, 3)", "[1]==[1.0]"),
        *("'a'<'b'", "1 in {1: 2}", "'b' in 'abc'", "None==0"),
        *("1<2<3", "1<2>3", "3>2>2", "1==1.0!=2", "not 1", "not []", "0 or 'a'"),
        *("1 and []", "1 or 1/0", "0 and 1/0", "0<-1<1/0"),
        *("'abc'[::-1]", "[1, 2, 3][-2:]", "(1, 2, 3)[0:2]", "'abc'[10:]"),
        *("[1, 2, 3][::2]", "{'a': 1}['a']", "[[1, 2], [3]][0][1]"),
        *("[(x, y) for x in [1, 2] for y in 'ab' if x > 1]", "sum(x for x in [1, 2])"),
        "[x for x in [3, 4] if x > 3 if x < 9]",
        *("1.", ".5", "1.e3", "1.5e-3", "2E+1", "1_0.0_1", "1e3", "1_000", "0.1+0.2", "-2**2", "2**-1", "7//-2"),
        *("-7%3", "7.5//2", "True+True", "1 if [] else 2"),
    ],
)  # fmt: skip
def test_an_expression_gives_what_python_and_numpy_give(expression: str) -> None:
    assert_same_as_python(expression)


def test_division_of_arrays_by_zero_is_infinite() -> None:
    infinities = value_of("Answer=np.array([1, -1, 1.5, 0])/0")
    with np.errstate(all="ignore"):
        assert same(plain(infinities), plain(np.array([1, -1, 1.5, 0]) / 0))


def test_a_set_keeps_the_order_in_which_its_members_came() -> None:
    assert value_of("Answer=list(set(['b', 'a', 'b', 'c']))") == ["b", "a", "c"]


def test_the_names_of_a_comprehension_do_not_stay() -> None:
    assert value_of("x=5", "y=[x for x in [1, 2]]", "Answer=x") == 5


def test_several_names_and_operators_with_assignment() -> None:
    assert value_of(
        "a, b = 1, 2", "[c, d] = 'xy'", "a, b = b, a", "a -= 1", "a *= 6", "a /= 4", "Answer=[a, b, c, d]"
    ) == [1.5, 1, "x", "y"]
    assert value_of("a=7", "a//=2", "a**=2", "a%=5", "Answer=a") == 4


# Random expressions: what Python says of them is what we say, to the last bit.

_LEAVES = st.one_of(st.integers(0, 60).map(str), st.sampled_from(["0.5", "2.25", "1e3", "True", "False", "x", "y"]))


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def joined(signs: list[str]) -> st.SearchStrategy[str]:
        return st.tuples(inner, st.sampled_from(signs), inner).map(lambda parts: f"({' '.join(parts)})")

    return st.one_of(
        joined(["+", "-", "*", "/", "//", "%"]),
        joined(["<", "<=", ">", ">=", "==", "!=", "and", "or"]),
        st.tuples(inner, st.sampled_from(["0", "1", "2", "3", "-1", "0.5"])).map(
            lambda parts: f"({parts[0]} ** {parts[1]})"
        ),
        st.tuples(st.sampled_from(["-", "+", "not "]), inner).map(lambda parts: f"({parts[0]}{parts[1]})"),
        st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]} if {parts[1]} else {parts[2]})"),
        st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]} < {parts[1]} <= {parts[2]})"),
        st.tuples(st.sampled_from(["abs", "int", "float", "bool", "round"]), inner).map(
            lambda parts: f"{parts[0]}({parts[1]})"
        ),
        st.tuples(st.sampled_from(["max", "min"]), inner, inner).map(
            lambda parts: f"{parts[0]}({parts[1]}, {parts[2]})"
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"sum([{', '.join(parts)}])"),
        st.tuples(inner, inner).map(lambda parts: f"({parts[0]} in [{parts[1]}, 1])"),
    )


@given(st.recursive(_LEAVES, _grown, max_leaves=12), st.integers(-9, 9), st.floats(-9, 9, allow_nan=False))
def test_random_arithmetic_is_that_of_python(expression: str, x: int, y: float) -> None:
    try:
        theirs = eval(expression, {"x": x, "y": y})
    except (ArithmeticError, TypeError, ValueError):
        theirs = None
    steps = (f"x={x}", f"y={y!r}", f"Answer={expression}")
    try:
        ours = value_of(*steps)
    except ProgramRefused as error:
        assert re.search(r"brackets|bits|levels|lie within", str(error))
    except ProgramFailed:
        assert theirs is None or _goes_through_complex(expression, x, y)
    else:
        assert repr(ours) == repr(theirs)


def _goes_through_complex(expression: str, x: int, y: float) -> bool:
    """Whether a power within is complex, although what is made of it (a bool, abs) is not."""
    powers = [
        node for node in ast.walk(ast.parse(expression)) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)
    ]
    for power in powers:
        try:
            if isinstance(eval(ast.unparse(power), {"x": x, "y": y}), complex):
                return True
        except (ArithmeticError, TypeError, ValueError):
            continue
    return False


_FLOATS = st.lists(st.floats(-1e6, 1e6).map(lambda value: round(value, 3)), min_size=1, max_size=12)
_REDUCTIONS = (
    *("sum", "mean", "median", "max", "min", "argmax", "argmin", "std", "var", "ptp"),
    *("sort", "argsort", "cumsum", "diff", "unique"),
)


@given(_FLOATS, st.sampled_from(_REDUCTIONS))
def test_random_reductions_are_those_of_numpy(values: list[float], name: str) -> None:
    if name == "argsort" and len(set(values)) < len(values):
        values = sorted(set(values))  # NumPy's default sort does not keep the order of equals
    ours, theirs = plain(value_of(f"Answer=np.{name}({values!r})")), plain(getattr(np, name)(values))
    scale = max(abs(value) for value in values) ** 2 + 1
    np.testing.assert_allclose(_numbers(ours), _numbers(theirs), rtol=1e-9, atol=1e-12 * scale)


def _numbers(value: Any) -> list[Any]:
    return value[1:] if isinstance(value, list) else [value]


@given(_FLOATS, st.integers(1, 9), st.sampled_from(["+", "-", "*", "/", "//", "%", "<", ">=", "=="]))
def test_random_elementwise_arithmetic_is_that_of_numpy(values: list[float], other: int, sign: str) -> None:
    assert_same_as_python(f"np.array({values!r}) {sign} {other}")
    assert_same_as_python(f"{other} {sign} np.array({[value or 1.0 for value in values]!r})")


@given(st.lists(st.integers(-9, 9), max_size=8), *[st.none() | st.integers(-12, 12)] * 3)
def test_random_slices_are_those_of_python(
    items: list[int], start: int | None, stop: int | None, step: int | None
) -> None:
    expression = ":".join("" if bound is None else str(bound) for bound in (start, stop, step or None))
    assert_same_as_python(f"{items}[{expression}]")


@given(st.text(max_size=40))
def test_any_text_of_a_string_is_kept_or_refused(text: str) -> None:
    try:
        assert value_of("Answer='" + text.replace("\\", "\\\\").replace("'", "\\'") + "'") == text
    except ProgramRefused:
        assert not text.isprintable()


# The time, which operations bound long before.


def test_a_machine_that_is_too_slow_ends_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter()
    now = limits.time.monotonic()
    monkeypatch.setattr(limits.time, "monotonic", lambda: now + 1)
    with pytest.raises(ProgramRefused, match=r"more than 0\.5 seconds"):
        meter.spend(1)


# What the code itself may not do, and what the page says of it.


def test_nothing_of_the_package_runs_code() -> None:
    forbidden = {"eval", "exec", "compile", "getattr", "setattr", "__import__", "globals", "locals", "vars", "open"}
    files = sorted((ROOT / "runtime" / "apps" / "charts" / "programs").glob("*.py"))
    assert len(files) > 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            assert not (isinstance(node, ast.Name) and node.id in forbidden), f"{file.name}: {node.id}"


def section(title: str) -> list[list[str]]:
    """The rows of the table under a heading of the page, without its head."""
    text = re.split(rf"^##+ {re.escape(title)}$", PAGE, flags=re.MULTILINE)[1]
    rows = re.findall(r"^\|( `.+)\|$", re.split(r"^##", text, flags=re.MULTILINE)[0], re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows]


def arguments_of(function: Function) -> str:
    most = "any" if function.most == MOST_ELEMENTS else str(function.most)
    count = str(function.least) if function.least == function.most else f"{function.least} to {most}"
    return ", ".join([count, *(f"`{keyword}=`" for keyword in function.keywords)])


def documented(title: str) -> dict[str, str]:
    return {name: row[1] for row in section(title) for name in re.findall(r"`([\w.]+)`", row[0])}


def test_the_page_has_every_function_with_its_arguments() -> None:
    assert documented("Functions of Python") == {name: arguments_of(each) for name, each in PYTHON_FUNCTIONS.items()}
    assert documented("Functions of NumPy") == {name: arguments_of(each) for name, each in NUMPY_FUNCTIONS.items()}
    assert documented("Methods") == {
        f"{type_name(of)}.{name}": arguments_of(each)
        for of, methods in METHODS.items()
        for name, each in methods.items()
    }
    assert {name for row in section("Constants") for name in re.findall(r"`np\.(\w+)`", row[0])} == set(NUMPY_CONSTANTS)


def test_the_page_has_every_bound() -> None:
    bounds = {name: value for name, value in vars(limits).items() if name.isupper()}
    assert {row[0].strip("`"): float(row[1].replace(" ", "")) for row in section("Bounds")} == bounds
