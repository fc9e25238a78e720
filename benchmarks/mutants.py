"""Mutants of a module: its source with one small fault in one function."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import CodeType
from typing import Final

OPPOSITE: Final[dict[type[ast.AST], type[ast.AST]]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
_SAYS: Final = (ast.JoinedStr, ast.Assert, ast.Raise, ast.ClassDef)
"""What is not looked into: messages, our own invariants, and what is said when something is refused."""


@dataclass(frozen=True)
class Mutant:
    """One fault: which function of which file has it, on which line, and what it is."""

    file: str
    function: str
    line: int
    number: int
    change: str
    place: tuple[int, ...]

    @property
    def name(self) -> str:
        """What the journal calls it."""
        return f"{self.file}:{self.line} {self.function} #{self.number} {self.change}"

    def code(self, path: Path) -> CodeType:
        """The function's code with the fault in it."""
        tree = ast.parse(path.read_text())
        _Changer(self.number).change_in(_at(tree, self.place))
        compiled = compile(ast.fix_missing_locations(tree), str(path), "exec")
        return next(code for code in codes(compiled) if code.co_qualname == self.function)


def with_first_statement(path: Path, function: str, name: str) -> CodeType:
    """A function's code that first calls the built-in `called_function` with a name, and so do functions within it."""
    tree = ast.parse(path.read_text())
    place = next(place for qualname, place in _functions(tree) if qualname == function)
    for each in list(ast.walk(_at(tree, place))):
        if isinstance(each, ast.FunctionDef):
            each.body.insert(0, ast.parse(f"called_function({name!r})").body[0])
        elif isinstance(each, ast.Lambda):
            called = ast.parse(f"called_function({name!r})", mode="eval").body
            both = ast.Tuple([called, each.body], ast.Load())
            each.body = ast.Subscript(both, ast.Constant(1), ast.Load())
    compiled = compile(ast.fix_missing_locations(tree), str(path), "exec")
    return next(code for code in codes(compiled) if code.co_qualname == function)


def codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and all that it holds."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def mutants_of(path: Path, file: str) -> list[Mutant]:
    """All mutants of a file's functions and methods. Those within another function belong to that one."""
    tree = ast.parse(path.read_text())
    return [mutant for qualname, place in _functions(tree) for mutant in _of_function(tree, qualname, place, file)]


def _functions(tree: ast.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Outermost functions, by qualified name and by where they stand in the bodies of the tree."""
    for i, statement in enumerate(tree.body):
        if isinstance(statement, ast.FunctionDef):
            yield statement.name, (i,)
        if isinstance(statement, ast.ClassDef):
            for j, method in enumerate(statement.body):
                if isinstance(method, ast.FunctionDef):
                    yield f"{statement.name}.{method.name}", (i, j)


def _of_function(tree: ast.Module, qualname: str, place: tuple[int, ...], file: str) -> Iterator[Mutant]:
    if qualname == "_" or qualname.endswith(("__repr__", "__str__")):
        return
    for number in count():
        done = _Changer(number)
        done.change_in(copy.deepcopy(_at(tree, place)))
        if done.change is None:
            return
        yield Mutant(file, qualname, done.line, number, done.change, place)


def _at(tree: ast.Module, place: tuple[int, ...]) -> ast.FunctionDef:
    found: ast.AST = tree
    for step in place:
        assert isinstance(found, ast.Module | ast.ClassDef)
        found = found.body[step]
    assert isinstance(found, ast.FunctionDef)
    return found


def _documented(function: ast.FunctionDef) -> int:
    return int(ast.get_docstring(function) is not None)


class _Changer(ast.NodeTransformer):
    """Makes the change of a given number, in the order of the source; `change` says which, None if there is none."""

    def __init__(self, number: int) -> None:
        self.left, self.change, self.line = number, None, 0  # type: int, str | None, int

    def _now(self, node: ast.AST, change: str) -> bool:
        """Whether this is the change to make."""
        if self.change is not None:
            return False
        self.left -= 1
        if self.left >= 0:
            return False
        self.change, self.line = change, getattr(node, "lineno", 0)
        return True

    def change_in(self, function: ast.FunctionDef) -> None:
        """Change the function's body in place, from what follows its docstring on."""
        function.body = self.statements(function.body, _documented(function))

    def statements(self, body: list[ast.stmt], first: int = 0) -> list[ast.stmt]:
        """The body with its statements changed, from the one that is no docstring on."""
        return [*body[:first], *(self.visit(statement) for statement in body[first:])]

    def visit(self, node: ast.AST) -> ast.AST:
        if self.change is not None or isinstance(node, _SAYS):
            return node
        changed = self._changed(node)
        return changed if changed is not None else self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.change_in(node)
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.FunctionDef):
            return self.visit_FunctionDef(node)
        if isinstance(node, ast.AnnAssign):  # its annotation is not run
            if node.value is not None:
                node.value = self.visit(node.value)  # type: ignore[assignment]
            return node
        return super().generic_visit(node)

    def _changed(self, node: ast.AST) -> ast.AST | None:
        match node:
            case ast.Compare(ops=[first, *rest]) if type(first) in OPPOSITE:
                other = OPPOSITE[type(first)]
                if self._now(node, f"{type(first).__name__} → {other.__name__}"):
                    node.ops = [other(), *rest]  # type: ignore[list-item]
                    return node
            case ast.BinOp(op=operator) | ast.BoolOp(op=operator) | ast.AugAssign(op=operator) if (
                type(operator) in OPPOSITE
            ):
                other = OPPOSITE[type(operator)]
                if self._now(node, f"{type(operator).__name__} → {other.__name__}"):
                    node.op = other()  # type: ignore[assignment]
                    return node
            case ast.Constant(value=bool(value)):
                if self._now(node, f"{value} → {not value}"):
                    return ast.copy_location(ast.Constant(not value), node)
            case ast.Constant(value=int(value)):
                for step in (1, -1):
                    if self._now(node, f"{value} → {value + step}"):
                        return ast.copy_location(ast.Constant(value + step), node)
            case ast.Constant(value=float(value)):
                if self._now(node, f"{value} → ten times"):
                    return ast.copy_location(ast.Constant(value * 10 if value else 1.0), node)
            case ast.UnaryOp(op=ast.Not() | ast.USub() as operator):
                if self._now(node, f"{type(operator).__name__} left out"):
                    return node.operand
            case ast.Expr(value=ast.Call()):
                if self._now(node, "statement left out"):
                    return ast.copy_location(ast.Pass(), node)
            case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
                if self._now(node, "returns None"):
                    return ast.copy_location(ast.Return(ast.Constant(None)), node)
            case ast.If() | ast.IfExp() if not _checks_types(node):
                if self._now(node, "condition negated"):
                    node.test = ast.copy_location(ast.UnaryOp(ast.Not(), node.test), node.test)
                    return node
            case ast.Call(args=[first, second, *rest]) if not isinstance(first, ast.Starred | ast.Constant):
                if getattr(node.func, "id", "") not in ("isinstance", "getattr", "cast") and self._now(
                    node, "arguments swapped"
                ):
                    node.args = [second, first, *rest]
                    return node
            case ast.Tuple(elts=[_, _, *_], ctx=ast.Load()) | ast.List(elts=[_, _, *_], ctx=ast.Load()):
                if self._now(node, "last element left out"):
                    node.elts = node.elts[:-1]
                    return node
            case ast.Dict(keys=[_, _, *_]):
                for i in range(len(node.keys)):
                    if self._now(node, f"entry {i} left out"):
                        node.keys.pop(i), node.values.pop(i)
                        return node
            case ast.Break():
                if self._now(node, "break → continue"):
                    return ast.copy_location(ast.Continue(), node)
            case ast.Continue():
                if self._now(node, "continue → break"):
                    return ast.copy_location(ast.Break(), node)
        return None


def _checks_types(node: ast.If | ast.IfExp) -> bool:
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
