"""The value of a checked syntax tree: nothing is compiled or executed, each node is worked out here."""

from __future__ import annotations

import ast
from collections.abc import Callable

from tm_export.runtime.apps.charts.programs.arithmetic import binary, signed
from tm_export.runtime.apps.charts.programs.comparison import compare, contains
from tm_export.runtime.apps.charts.programs.function import Function, call
from tm_export.runtime.apps.charts.programs.indexing import element
from tm_export.runtime.apps.charts.programs.limits import CHARACTERS_PER_OPERATION, Meter, check_bits, check_characters
from tm_export.runtime.apps.charts.programs.methods import METHODS
from tm_export.runtime.apps.charts.programs.numpy_functions import NUMPY_CONSTANTS, NUMPY_FUNCTIONS
from tm_export.runtime.apps.charts.programs.python_functions import PYTHON_FUNCTIONS
from tm_export.runtime.apps.charts.programs.syntax import NUMPY_NAMES, OPERATORS
from tm_export.runtime.apps.charts.programs.values import Value, dict_of, items_of, name_of_type, set_of, size, truth


class Evaluator:
    """Runs checked statements one after another; `names` holds what they assign.

    All methods raise ArithmeticError, LookupError, TypeError and ValueError where Python or NumPy would, and
    ProgramRefused for what would be too large or take too long.
    """

    def __init__(self, meter: Meter) -> None:
        self.names: dict[str, Value] = {}
        self._meter = meter

    def run(self, statement: ast.stmt) -> None:
        """Runs a statement that `syntax.parsed` gave."""
        match statement:
            case ast.Assign(targets=targets, value=value):
                assigned = self._value(value)
                for target in targets:
                    self._assign(target, assigned)
            case ast.AugAssign(target=ast.Name(id=name), op=operator, value=value):
                self.names[name] = self._binary(operator, self._named(name), self._value(value))
            case ast.Expr(value=value):
                self._value(value)
            case _:
                raise AssertionError("the statement was not checked")

    def _assign(self, target: ast.expr, value: Value) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = value
            return
        assert isinstance(target, ast.Tuple | ast.List)
        values = items_of(value)
        if len(values) != len(target.elts):
            raise ValueError(f"{len(values)} values cannot be assigned to {len(target.elts)} names")
        self._meter.spend(len(values))
        for name, one in zip(target.elts, values, strict=True):
            self._assign(name, one)

    def _value(self, node: ast.expr) -> Value:
        self._meter.spend(1)
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self._named(name)
            case ast.List(elts=elements):
                return self._paid([self._value(each) for each in elements])
            case ast.Tuple(elts=elements):
                return self._paid(tuple(self._value(each) for each in elements))
            case ast.Set(elts=elements):
                return self._paid(set_of([self._value(each) for each in elements]))
            case ast.Dict(keys=keys, values=values):
                pairs = zip(keys, values, strict=True)
                return self._paid(dict_of([(self._value(key), self._value(value)) for key, value in pairs if key]))
            case ast.BinOp(left=left, op=operator, right=right):
                return self._binary(operator, self._value(left), self._value(right))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not truth(self._value(operand))
            case ast.UnaryOp(op=operator, operand=operand):
                return self._paid(signed(OPERATORS[type(operator)], self._value(operand)))
            case ast.BoolOp():
                return self._either(node)
            case ast.Compare():
                return self._compared(node)
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                return self._value(body if truth(self._value(test)) else otherwise)
            case ast.Subscript(value=value, slice=ast.Slice(lower=lower, upper=upper, step=step)):
                sliced = self._value(value)
                return self._paid(element(sliced, slice(self._bound(lower), self._bound(upper), self._bound(step))))
            case ast.Subscript(value=value, slice=index):
                return self._paid(element(self._value(value), self._paid(self._value(index))))
            case ast.ListComp(elt=element_node, generators=generators):
                return self._comprehended(element_node, generators)
            case ast.GeneratorExp(elt=element_node, generators=generators):
                return self._comprehended(element_node, generators)
            case ast.Attribute(attr=name):
                return NUMPY_CONSTANTS[name]
            case ast.Call():
                return self._called(node)
            case _:
                raise AssertionError("the expression was not checked")

    def _paid(self, value: Value) -> Value:
        """The value that was made, after it is checked and paid for."""
        if isinstance(value, str):
            check_characters(len(value))
            self._meter.spend(len(value) // CHARACTERS_PER_OPERATION)
        elif isinstance(value, int):
            check_bits(value.bit_length())
        else:
            self._meter.spend(size(value))
        return value

    def _named(self, name: str) -> Value:
        if name not in self.names:
            raise LookupError(f"{name} has no value")
        return self.names[name]

    def _binary(self, operator: ast.operator, left: Value, right: Value) -> Value:
        return self._paid(binary(OPERATORS[type(operator)], self._paid(left), self._paid(right)))

    def _either(self, node: ast.BoolOp) -> Value:
        """The first value that decides an `and` or `or`; those after it are not worked out."""
        wanted = isinstance(node.op, ast.Or)
        value = self._value(node.values[0])
        for each in node.values[1:]:
            if truth(value) == wanted:
                return value
            value = self._value(each)
        return value

    def _compared(self, node: ast.Compare) -> Value:
        """The first comparison of a chain that is false, or the last; those after it are not worked out."""
        left = self._value(node.left)
        result: Value = True
        for number, (operator, right_node) in enumerate(zip(node.ops, node.comparators, strict=True)):
            if number and not truth(result):
                return result
            right = self._value(right_node)
            result = self._one_comparison(OPERATORS[type(operator)], self._paid(left), self._paid(right))
            left = right
        return result

    def _one_comparison(self, sign: str, left: Value, right: Value) -> Value:
        if sign in ("in", "not in"):
            return contains(right, left) == (sign == "in")
        return self._paid(compare(sign, left, right))

    def _bound(self, node: ast.expr | None) -> int | None:
        value = None if node is None else self._value(node)
        if value is not None and not isinstance(value, int):
            raise TypeError(f"{name_of_type(value)} cannot bound a slice")
        return value

    def _comprehended(self, element_node: ast.expr, generators: list[ast.comprehension]) -> list[Value]:
        """The list of a comprehension, whose names do not stay; also of a generator, which is not lazy here."""
        outside = self.names
        self._meter.spend(len(outside))
        self.names = dict(outside)
        made: list[Value] = []
        self._loop(generators, lambda: made.append(self._value(element_node)))
        self.names = outside
        return self._paid(made)  # type: ignore[no-any-return]

    def _loop(self, generators: list[ast.comprehension], make: Callable[[], None]) -> None:
        if not generators:
            make()
            return
        first = generators[0]
        for item in items_of(self._paid(self._value(first.iter))):
            self._assign(first.target, item)
            if all(truth(self._value(condition)) for condition in first.ifs):
                self._loop(generators[1:], make)

    def _called(self, node: ast.Call) -> Value:
        function, name, target = self._function(node.func)
        arguments = [self._value(each) for each in node.args]
        named = {each.arg: self._value(each.value) for each in node.keywords if each.arg is not None}
        for each in (*target, *arguments, *named.values()):
            self._paid(each)
        if not target:
            return self._paid(call(function, name, arguments, named))
        return self._paid(call(_bound_to(function, target[0]), name, arguments, named))

    def _function(self, node: ast.expr) -> tuple[Function, str, tuple[Value, ...]]:
        """What is called, its name, and the value whose method it is."""
        if isinstance(node, ast.Name):
            if node.id in self.names:
                raise TypeError(f"{node.id} is {name_of_type(self.names[node.id])}, which cannot be called")
            return PYTHON_FUNCTIONS[node.id], node.id, ()
        assert isinstance(node, ast.Attribute)
        if isinstance(node.value, ast.Name) and node.value.id in NUMPY_NAMES:
            return NUMPY_FUNCTIONS[node.attr], f"np.{node.attr}", ()
        target = self._value(node.value)
        methods = METHODS.get(type(target), {})
        if node.attr not in methods:
            raise TypeError(f"{name_of_type(target)} has no method {node.attr}")
        return methods[node.attr], node.attr, (target,)


def _bound_to(function: Function, target: Value) -> Function:
    run = function.run
    return Function(
        lambda *arguments, **named: run(target, *arguments, **named),
        function.least,
        function.most,
        function.keywords,
    )
