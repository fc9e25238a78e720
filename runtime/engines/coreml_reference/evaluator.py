"""Evaluates a Core ML program step by step.

Precision: Core ML stores each value in its declared type; how wide it accumulates inside an operation depends
on the compute unit and is not documented. Here an operation on fp16 values is computed in fp32 and its result
rounded to fp16 once (to nearest, ties to even; beyond 65504 is infinity). This is the most exact device that
stores fp16; a real one may differ inside an operation, never in what storage can hold. That every reader sees the same
rounding of a value is a choice too, and `readings.py` has another.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from tm_export.runtime.engines.base import EngineError
from tm_export.runtime.engines.coreml_reference.ops import ARITHMETIC, MOVEMENT, Operation
from tm_export.runtime.engines.coreml_reference.program import (
    Argument,
    Operand,
    Program,
    Ref,
    Step,
    ValueType,
)
from tm_export.runtime.engines.coreml_reference.readings import ROUNDED, Readings


class UnknownOp(EngineError):
    """The program holds an operation, or a form of one, that the reference engine does not evaluate."""


@dataclass(frozen=True)
class Plan:
    """A program whose every operation is known, with the values that are dead after each step."""

    program: Program
    dead: tuple[tuple[str, ...], ...]


def plan(program: Program) -> Plan:
    """Checks that every step can be evaluated and finds out when each value is used last.

    Raises:
        UnknownOp: names the operation and says what to do.
    """
    for step in program.steps:
        _operation(step)
    last_use = {result.name: index for index, step in enumerate(program.steps) for result in step.results}
    last_use |= {value.name: -1 for value in program.inputs}
    for index, step in enumerate(program.steps):
        last_use |= dict.fromkeys(_names_used(step), index)
    kept = {operand.name for _, operand in program.outputs if isinstance(operand, Ref)}
    dead: list[list[str]] = [[] for _ in program.steps]
    for name, index in last_use.items():
        if index >= 0 and name not in kept:
            dead[index].append(name)
    return Plan(program, tuple(map(tuple, dead)))


def _names_used(step: Step) -> set[str]:
    operands = [o for a in step.arguments.values() for o in (a if isinstance(a, tuple) else (a,))]
    return {operand.name for operand in operands if isinstance(operand, Ref)}


def _operation(step: Step) -> Operation:
    advice = "without a Mac it cannot be checked; write that part of forward in other operators"
    operation = ARITHMETIC.get(step.op) or MOVEMENT.get(step.op)
    if operation is None or step.has_blocks:
        raise UnknownOp(f"the Core ML reference engine does not know {step.op!r} (operation {step.name!r}): {advice}")
    parameters = inspect.signature(operation).parameters
    unknown = sorted(set(step.arguments) - set(parameters))
    if unknown:
        raise UnknownOp(
            f"the Core ML reference engine does not know the form of {step.op!r} with {', '.join(unknown)} "
            f"(operation {step.name!r}): {advice}"
        )
    return operation


def evaluate(plan: Plan, inputs: Mapping[str, torch.Tensor], readings: Readings = ROUNDED) -> dict[str, torch.Tensor]:
    """Runs a plan on inputs of the declared types and shapes; gives the outputs by name.

    Values are held and read as `readings` says, and freed as soon as no later step needs them.

    Raises:
        EngineError: a step fails, for instance through an index out of range; the message names the step.
    """
    values = {value.name: readings.held(inputs[value.name], value.dtype) for value in plan.program.inputs}
    for step, dead in zip(plan.program.steps, plan.dead, strict=True):
        try:
            results = _run(step, values, readings)
        except UnknownOp:
            raise
        except (ValueError, RuntimeError, IndexError, NotImplementedError) as error:
            raise EngineError(f"Core ML operation {step.op!r} ({step.name!r}) fails: {error}") from error
        values.update((declared.name, result) for declared, result in zip(step.results, results, strict=True))
        del results
        for name in dead:
            del values[name]
    return {declared.name: _resolve(declared, operand, values) for declared, operand in plan.program.outputs}


def _run(step: Step, values: Mapping[str, torch.Tensor], readings: Readings) -> list[torch.Tensor]:
    operation = _operation(step)

    def read(operand: Operand, reader: str) -> torch.Tensor | str:
        value = values[operand.name] if isinstance(operand, Ref) else operand
        if isinstance(value, str):
            return value
        held = value if isinstance(operand, Ref) else readings.held(value, value.dtype)
        return readings.to_compute_with(held, reader) if step.op in ARITHMETIC else readings.to_move(held)

    arguments = {name: _argument(argument, f"{step.name}.{name}", read) for name, argument in step.arguments.items()}
    results = operation(**arguments)
    several = results if isinstance(results, (tuple, list)) else (results,)
    for declared, result in zip(step.results, several, strict=True):
        if tuple(result.shape) != declared.shape:
            raise ValueError(
                f"result {declared.name!r} has shape {list(result.shape)}, the program declares {list(declared.shape)}"
            )
    return [readings.held(result, declared.dtype) for declared, result in zip(step.results, several, strict=True)]


def _argument(
    argument: Argument, reader: str, read: Callable[[Operand, str], torch.Tensor | str]
) -> torch.Tensor | str | Sequence[torch.Tensor | str]:
    if isinstance(argument, tuple):
        return [read(operand, f"{reader}.{i}") for i, operand in enumerate(argument)]
    return read(argument, reader)


def _resolve(declared: ValueType, operand: Operand, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
    value = values[operand.name] if isinstance(operand, Ref) else operand
    if isinstance(value, str):
        raise EngineError("a program output is a string; only tensors can be evaluated")
    return value.to(declared.dtype)
