"""Reads a saved Core ML package into a plain list of steps.

coremltools' own loader does the reading, so that what is evaluated is what the file says, types included.
Only the wanted function is read: the others of a multifunction package would cost memory for their weights.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import coremltools
import numpy as np
import torch
from coremltools.converters.mil.frontend.milproto.load import load
from coremltools.converters.mil.mil import types

from tm_export.runtime.engines.base import EngineError


@dataclass(frozen=True)
class Ref:
    """A value that an earlier step gives, or an input of the function."""

    name: str


Constant: TypeAlias = torch.Tensor | str
Operand: TypeAlias = Ref | Constant
Argument: TypeAlias = Operand | tuple[Operand, ...]


@dataclass(frozen=True)
class ValueType:
    """What the program declares of a value: its storage type and its static shape."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """One operation: its MIL type, its name in the file, its arguments by parameter name, and its results."""

    op: str
    name: str
    arguments: Mapping[str, Argument]
    results: tuple[ValueType, ...]
    has_blocks: bool = False


@dataclass(frozen=True)
class Program:
    """One function of a package, in execution order. An output may also be an input or a constant."""

    inputs: tuple[ValueType, ...]
    steps: tuple[Step, ...]
    outputs: tuple[tuple[ValueType, Operand], ...]


_TORCH_DTYPES = {
    types.fp16: torch.float16,
    types.fp32: torch.float32,
    types.int8: torch.int8,
    types.uint8: torch.uint8,
    types.int16: torch.int16,
    types.uint16: torch.uint16,
    types.int32: torch.int32,
    types.uint32: torch.uint32,
    types.bool: torch.bool,
    # coremltools unpacks types of less than a byte into whole bytes.
    types.int4: torch.int8,
    types.uint1: torch.uint8,
    types.uint2: torch.uint8,
    types.uint3: torch.uint8,
    types.uint4: torch.uint8,
    types.uint6: torch.uint8,
}


def load_program(package: Path, function: str) -> Program:
    """Reads one function of an `.mlpackage`.

    Weights keep their stored type; shapes must be static.

    Raises:
        EngineError: the package is not an ML program, has no such function, or a value has a type or a
            dynamic shape that cannot be evaluated.
    """
    try:
        spec = coremltools.utils.load_spec(str(package))
    except Exception as error:  # the package reader raises bare RuntimeError and protobuf errors
        raise EngineError(f"{package} cannot be read as a Core ML package: {error}") from error
    if spec.WhichOneof("Type") != "mlProgram":
        raise EngineError(f"{package} is no ML program but {spec.WhichOneof('Type')}; convert it to an mlprogram")
    functions = spec.mlProgram.functions
    if function not in functions:
        raise EngineError(f"{package} has no function {function!r}; it has {sorted(functions)}; export again")
    for other in set(functions) - {function}:
        del functions[other]
    weights = package / "Data" / "com.apple.CoreML" / "weights"
    with _cycles_collected():
        try:
            mil = load(spec, spec.specificationVersion, str(weights)).functions[function]
        except Exception as error:  # the loader raises whatever its type inference raises
            raise EngineError(f"coremltools cannot read the program of {package}: {error}") from error
        translated = _translate(mil)
        del mil
    return translated


@contextmanager
def _cycles_collected() -> Iterator[None]:
    """Free what was made inside and is held by nothing but itself: such is coremltools' program, weights and all."""
    gc.freeze()  # what was there before need not be looked through
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()


def _translate(function: Any) -> Program:
    return Program(
        inputs=tuple(_value_type(var) for var in function.inputs.values()),
        steps=tuple(_step(op) for op in function.operations if op.op_type != "const"),
        outputs=tuple((_value_type(var), _operand(var)) for var in function.outputs),
    )


def _step(op: Any) -> Step:
    arguments: dict[str, Argument] = {
        name: tuple(_operand(v) for v in var) if isinstance(var, (list, tuple)) else _operand(var)
        for name, var in op.inputs.items()
    }
    if op.blocks:  # control flow: its results may have no static type; the evaluator refuses it by name
        return Step(op.op_type, op.name, {}, (), has_blocks=True)
    return Step(op.op_type, op.name, arguments, tuple(_value_type(var) for var in op.outputs))


def _operand(var: Any) -> Operand:
    if var.op is None or var.op.op_type != "const":
        return Ref(var.name)
    value = var.val
    if isinstance(value, str):
        return value
    # NumPy scalars and read-only arrays both become a tensor; the weights are shared, not copied.
    array = np.asarray(value)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _value_type(var: Any) -> ValueType:
    dtype = _TORCH_DTYPES.get(var.dtype)
    if dtype is None:
        raise EngineError(f"value {var.name!r} has type {types.builtin_to_string(var.dtype)}, which is not evaluated")
    if any(not isinstance(size, (int, np.integer)) for size in var.shape):
        raise EngineError(f"value {var.name!r} has the dynamic shape {list(var.shape)}; export with static shapes")
    return ValueType(var.name, dtype, tuple(int(size) for size in var.shape))
