"""From the source of a step to its syntax tree, in the subset of Python that is allowed."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Final

from tm_export.runtime.apps.charts.programs.errors import ProgramRefused
from tm_export.runtime.apps.charts.programs.lexical import check_tokens
from tm_export.runtime.apps.charts.programs.limits import MOST_DEPTH, check_bits, check_characters
from tm_export.runtime.apps.charts.programs.methods import METHOD_NAMES
from tm_export.runtime.apps.charts.programs.numpy_functions import NUMPY_CONSTANTS, NUMPY_FUNCTIONS
from tm_export.runtime.apps.charts.programs.python_functions import PYTHON_FUNCTIONS

NUMPY_NAMES: Final = ("np", "numpy")

OPERATORS: Final[Mapping[type[ast.AST], str]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.UAdd: "+",
    ast.USub: "-",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
}

_Nodes = tuple[type[ast.AST], ...]

_STATEMENTS: Final[_Nodes] = (ast.Assign, ast.AugAssign, ast.Expr)
_VALUES: Final[_Nodes] = (
    ast.Constant,
    ast.Name,
    ast.List,
    ast.Tuple,
    ast.Set,
    ast.Dict,
    ast.ListComp,
    ast.GeneratorExp,
)
_OPERATIONS: Final[_Nodes] = (ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Subscript, ast.Slice)
_CALLS: Final[_Nodes] = (ast.Call, ast.keyword, ast.Attribute)
_PARTS: Final[_Nodes] = (ast.comprehension, ast.Load, ast.Store, ast.And, ast.Or, ast.Not)
_ALLOWED: Final[_Nodes] = (*_STATEMENTS, *_VALUES, *_OPERATIONS, *_CALLS, *_PARTS, *OPERATORS)


def parsed(step: str) -> list[ast.stmt]:
    """The statements of a step: assignments and expressions, checked.

    Raises:
        ProgramRefused: it is not in the subset, or too large.
    """
    source = step.strip(" \t")
    check_tokens(source)
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ProgramRefused("the step is no Python that can be read") from None
    _check(statements)
    return statements


def _check(statements: Iterable[ast.AST]) -> None:
    waiting = [(statement, 1) for statement in statements]
    while waiting:
        node, depth = waiting.pop()
        if depth > MOST_DEPTH:
            raise ProgramRefused(f"an expression is more than {MOST_DEPTH} levels deep")
        _check_node(node)
        inside = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            inside.remove(node.func)  # a function is no value
            if isinstance(node.func, ast.Attribute) and not _is_of_numpy(node.func):
                inside.append(node.func.value)
        elif isinstance(node, ast.Attribute):
            inside.clear()
        waiting += [(each, depth + 1) for each in inside]


def _check_node(node: ast.AST) -> None:
    if not isinstance(node, _ALLOWED):
        raise ProgramRefused(f"{type(node).__name__} is not allowed")
    match node:
        case ast.Constant(value=value):
            _check_constant(value)
        case ast.Name(id=name) if "__" in name:
            raise ProgramRefused(f"the name {name} is not allowed")
        case ast.Assign(targets=targets):
            for target in targets:
                check_target(target)
        case ast.AugAssign(target=target):
            if not isinstance(target, ast.Name):
                raise ProgramRefused("an operator and = must follow a name")
            check_target(target)
        case ast.comprehension(target=target, is_async=is_async):
            if is_async:
                raise ProgramRefused("async is not allowed")
            check_target(target)
        case ast.Subscript(slice=ast.Tuple()):
            raise ProgramRefused("several indices are not allowed")
        case ast.keyword(arg=None):
            raise ProgramRefused("** in a call is not allowed")
        case ast.Dict(keys=keys) if None in keys:
            raise ProgramRefused("** in a dict is not allowed")
        case ast.Call(func=function):
            _check_called(function)
        case ast.Attribute() if not _is_of_numpy(node) or node.attr not in NUMPY_CONSTANTS:
            raise ProgramRefused(f"the attribute {node.attr} is not allowed")
        case _:
            pass


def _check_constant(value: object) -> None:
    if not isinstance(value, bool | int | float | str | None):
        raise ProgramRefused(f"a literal of type {type(value).__name__} is not allowed")
    if isinstance(value, int):
        check_bits(value.bit_length())
    if isinstance(value, str):
        check_characters(len(value))


def check_target(target: ast.expr) -> None:
    """Raises ProgramRefused if what is assigned to is neither a name nor names with commas, or stands for NumPy."""
    names = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
    for name in names:
        if not isinstance(name, ast.Name):
            raise ProgramRefused("only names can be assigned to, one or several with commas")
        if name.id in NUMPY_NAMES:
            raise ProgramRefused(f"{name.id} cannot be assigned to")


def _check_called(function: ast.expr) -> None:
    match function:
        case ast.Name(id=name):
            if name not in PYTHON_FUNCTIONS:
                raise ProgramRefused(f"the function {name} is not allowed")
        case ast.Attribute(attr=name) if _is_of_numpy(function):
            if name not in NUMPY_FUNCTIONS:
                raise ProgramRefused(f"the function np.{name} is not allowed")
        case ast.Attribute(attr=name):
            if name not in METHOD_NAMES:
                raise ProgramRefused(f"the method {name} is not allowed")
        case _:
            raise ProgramRefused("only a function that is named can be called")


def _is_of_numpy(attribute: ast.Attribute) -> bool:
    return isinstance(attribute.value, ast.Name) and attribute.value.id in NUMPY_NAMES
