"""Capture: a PyTorch module becomes a graph of ATen operators with static shapes."""

from __future__ import annotations

import io
import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from tm_export.exporters.constants import fold_constants, fold_masks, mark_constants
from tm_export.exporters.errors import ConversionRefused, UsageError
from tm_export.exporters.known_values import WithKnownValues
from tm_export.exporters.rules.base import apply_rules
from tm_export.exporters.rules.dropout import DropoutByMask
from tm_export.exporters.source import source_of_trace

_DATA_DEPENDENT = (
    "GuardOnDataDependentSymNode",
    "DataDependentOutputException",
    "DynamicOutputShapeException",
)


def capture(module: nn.Module, example_inputs: tuple[Tensor, ...], seed: int = 0) -> ExportedProgram:
    """Capture `module` as a functional ATen program.

    Operators stay as high as the user wrote them (linear, layer norm, attention), for each target to lower its
    own way. What is random is drawn from `seed` and becomes a constant. Weights may be on the meta device.

    Raises `UsageError` if the module does not run on the inputs, and `ConversionRefused`, with the user's
    source line, if a shape depends on data.
    """
    check_example_inputs(example_inputs)
    module = module.eval()
    with torch.no_grad(), _quiet(), _unharmed(module):
        try:
            program = _export(module, example_inputs)
        except Exception as error:
            if not _is_data_dependent(error):
                raise _explain(error, module) from error
            try:
                program = _export(WithKnownValues(module, seed), example_inputs)
            except Exception:  # the first error is about the user's own module
                raise _explain(error, module) from error
    program, _ = apply_rules(mark_constants(program), (DropoutByMask(),))  # draws what eager draws, in its order
    program = fold_masks(fold_constants(program, seed))
    refuse_data_dependent_shapes(program)
    return without_assertions(program)


def _export(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> ExportedProgram:
    exported = torch.export.export(module, example_inputs, strict=False)
    program: ExportedProgram = exported.run_decompositions({})
    return program


@contextmanager
def _unharmed(module: nn.Module) -> Iterator[None]:
    """Put back all modules' attributes: export replaces dictionaries in them, and a patched model needs its own."""
    saved = [(part, dict(part.__dict__)) for part in module.modules()]
    try:
        yield
    finally:
        for part, attributes in saved:
            part.__dict__.clear()
            part.__dict__.update(attributes)


def without_assertions(program: ExportedProgram) -> ExportedProgram:
    """Drop run-time checks: shapes and dtypes are settled here, and no phone raises."""
    for node in reversed(list(program.graph.nodes)):
        if "_assert" in str(node.target) and not node.users:
            program.graph.erase_node(node)
    return program


def check_example_inputs(example_inputs: tuple[Tensor, ...]) -> None:
    """Raise `UsageError` unless the inputs are a tuple of finite tensors."""
    if not isinstance(example_inputs, tuple):
        raise UsageError(
            f"example inputs are a {type(example_inputs).__name__}: give a tuple of tensors, `(x,)` for a single one"
        )
    if not example_inputs:
        raise UsageError("there are no example inputs: give at least one tensor")
    for position, value in enumerate(example_inputs):
        if not isinstance(value, Tensor):
            raise UsageError(
                f"example input {position} is a {type(value).__name__}, not a tensor: "
                "make it an attribute of the module, or a tensor"
            )
        if value.is_floating_point() and not value.isfinite().all():
            raise UsageError(f"example input {position} holds NaN or infinity: give finite values")


def refuse_data_dependent_shapes(program: ExportedProgram) -> None:
    """Raise `ConversionRefused` at the first value whose shape is not known."""
    for node in program.graph.nodes:
        value = node.meta.get("val")
        for tensor in value if isinstance(value, list | tuple) else (value,):
            if isinstance(tensor, Tensor) and not all(isinstance(size, int) for size in tensor.shape):
                raise _data_dependent(str(node.meta.get("stack_trace") or ""), str(node.target))
            if isinstance(tensor, torch.SymInt | torch.SymFloat | torch.SymBool):
                raise _data_dependent(str(node.meta.get("stack_trace") or ""), str(node.target))


def _data_dependent(trace: str, op: str) -> ConversionRefused:
    where = source_of_trace(trace)
    return ConversionRefused(
        f"a shape or a branch depends on data{f' at {where}' if where else ''} ({op}). A phone needs static shapes: "
        "choose a fixed number of tokens (topk with a constant k), or state a capacity and mask what is not used"
    )


def _explain(error: Exception, module: nn.Module) -> Exception:
    """The user's error for whatever capture raised."""
    if _is_data_dependent(error):
        return _data_dependent(_trace_text(error), _operator(_causes(error)))
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    where = source_of_trace(_trace_text(error))
    return UsageError(
        f"{type(module).__name__} does not run on its example inputs{f' at {where}' if where else ''}: "
        f"{type(error).__name__}: {first}"
    )


def _causes(error: BaseException) -> list[BaseException]:
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return chain


def _is_data_dependent(error: BaseException) -> bool:
    return any(type(e).__name__ in _DATA_DEPENDENT or "data-dependent" in str(e) for e in _causes(error))


def _operator(chain: list[BaseException]) -> str:
    return next((str(func) for error in chain if (func := getattr(error, "func", None))), type(chain[0]).__name__)


def _trace_text(error: BaseException) -> str:
    """Frames of the traceback in the form that graph nodes keep theirs."""
    return "\n".join(
        f'File "{frame.filename}", line {frame.lineno}, in {frame.name}\n    {frame.line}'
        for frame in traceback.extract_tb(error.__traceback__)
        if "<" not in frame.filename and "tm_export/exporters" not in frame.filename
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep export's own warnings, and its print-out of a graph that failed, from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch.fx", "torch._export")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
