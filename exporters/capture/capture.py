"""Capture: a PyTorch module becomes a graph of ATen operators with static shapes."""

from __future__ import annotations

import io
import itertools
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field, replace
from typing import Any, Final

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram

from tm_export.exporters.capture.capacity.carry import carry
from tm_export.exporters.capture.capacity.returned import Room
from tm_export.exporters.capture.counts.as_eager import record, replay
from tm_export.exporters.capture.counts.claims import claims_of
from tm_export.exporters.capture.counts.trials import unproven
from tm_export.exporters.capture.dropout import DropoutByMask
from tm_export.exporters.capture.tensor_indices import indices_stay_tensors
from tm_export.exporters.errors import ConversionRefused, ExportError, UsageError
from tm_export.exporters.graph.constants import fold_constants, fold_masks, mark_constants
from tm_export.exporters.graph.rule import apply_rules
from tm_export.exporters.graph.user_line import line_of, source_line, source_of_error, whole_traces
from tm_export.exporters.options import NO_CAPACITIES, Capacities

_DATA_DEPENDENT = (
    "GuardOnDataDependentSymNode",
    "DataDependentOutputException",
    "DynamicOutputShapeException",
)


@dataclass(frozen=True)
class Captured:
    """A program, and where its outputs have room for more tokens than are in use, by the capacity of which lines."""

    program: ExportedProgram
    rooms: tuple[Room, ...] = ()
    capacities: Mapping[str, int] = field(default_factory=dict)


def capture(module: nn.Module, example_inputs: tuple[Tensor, ...], seed: int = 0) -> ExportedProgram:
    """Capture `module` as a functional ATen program.

    Operators stay as high as the user wrote them (linear, layer norm, attention), for each target to lower its
    own way. What is random is drawn from `seed` and becomes a constant. Weights may be on the meta device.

    Raises `UsageError` if the module does not run on the inputs, and `ConversionRefused`, with the user's
    source line, if a shape depends on data.
    """
    return capture_in_room(module, example_inputs, seed, NO_CAPACITIES).program


def capture_in_room(
    module: nn.Module, example_inputs: tuple[Tensor, ...], seed: int, capacities: Capacities
) -> Captured:
    """The same, with room for a stated number of tokens where a selection by a mask chooses as many as data say.

    Raises `UsageError` for a capacity that is too small for the example inputs, or of a line that selects nothing.
    """
    check_example_inputs(example_inputs)
    with torch.no_grad(), _quiet(), _unharmed(module), whole_traces():
        module.eval()
        try:
            captured = Captured(_export(module, example_inputs))
            reads_values = _has_open_shapes(captured.program) or bool(capacities.by_line)
        except Exception as error:
            if _is_streamed(module):
                raise _explain(error, module) from error
            reads_values = True
        if reads_values and not _is_streamed(module):
            captured = _capture_as_eager(module, example_inputs, seed, capacities)
    program = captured.program
    program, _ = apply_rules(mark_constants(program), (DropoutByMask(),))  # draws what eager draws, in its order
    program = fold_masks(fold_constants(program, seed))
    refuse_data_dependent_shapes(program)
    return replace(captured, program=without_assertions(program))


def _export(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> ExportedProgram:
    with indices_stay_tensors(module):
        exported = torch.export.export(module, example_inputs, strict=False)
    program: ExportedProgram = exported.run_decompositions({})
    return program


def _capture_as_eager(
    module: nn.Module, example_inputs: tuple[Tensor, ...], seed: int, capacities: Capacities
) -> Captured:
    """Capture with the values that Python reads while the module runs in eager, and hold each of them true.

    What is captured so is what eager does: libraries that do something else under export are not told of it. Where the
    count of a selection does not hold, it gets the capacity that is stated for all, and the module is captured anew.
    """
    by_line = dict(capacities.by_line)
    while True:
        program, selecting = _captured_by_recording(module, example_inputs, seed, by_line)
        open_claims, tried = unproven(program), set(by_line)
        if not open_claims:
            break
        for claim in open_claims:
            line = line_of(claim.where)
            if capacities.everywhere is None or line in tried or line not in selecting:
                raise _data_dependent(claim.where, claim.what)
            by_line[line] = capacities.everywhere
    program, rooms = carry(program)
    refuse_data_dependent_shapes(program)
    return Captured(program, rooms, {line: room for line, room in by_line.items() if line in selecting})


def _captured_by_recording(
    module: nn.Module, example_inputs: tuple[Tensor, ...], seed: int, capacities: Mapping[str, int]
) -> tuple[ExportedProgram, frozenset[str]]:
    """The program, whose claims are to be proven, and the lines that select by a mask."""
    try:
        with _unharmed(module):
            recorded = record(module, example_inputs, seed, capacities)
    except ExportError:
        raise
    except Exception as error:
        if capacities and not _is_data_dependent(error):
            lines = ", ".join(f"{line} (capacity {room})" for line, room in capacities.items())
            raise UsageError(
                f"{type(module).__name__} does not run if what is selected has a capacity, as many rows in each run: "
                f"{lines}; it fails at {source_of_error(error)}: {_first_line(error)}. Give rows that are put together "
                "or compared the same capacity, or choose a fixed number of tokens (topk with a constant k)"
            ) from error
        raise _explain(error, module) from error
    with _unharmed(module):
        replay(module, recorded.values, seed, capacities)
        try:
            program = _export(module, example_inputs)
        except Exception as error:
            raise _untraceable(error, module) from error
    readings = sum(not isinstance(value, Tensor) for value in recorded.values)
    assert len(claims_of(program.graph)) == readings, "each reading leaves a claim"
    return program, recorded.selecting


def _is_streamed(module: nn.Module) -> bool:
    """Whether the module's weights are not there, so that it cannot run."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    return any(isinstance(tensor, FakeTensor) or tensor.is_meta for tensor in tensors)


def _has_open_shapes(program: ExportedProgram) -> bool:
    return any(_is_open(value) for node in program.graph.nodes for value in _values_of(node))


def _values_of(node: fx.Node) -> Sequence[Any]:
    value = node.meta.get("val")
    return value if isinstance(value, list | tuple) else (value,)


def _is_open(value: Any) -> bool:
    """Whether a value is a number, or has a shape, that nobody knows at export."""
    if isinstance(value, Tensor):
        return not all(isinstance(size, int) for size in value.shape)
    return isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool)


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
        if any(_is_open(value) for value in _values_of(node)):
            raise _data_dependent(source_line(node), str(node.target))


_SELECTIONS: Final = ("a selection by a mask", "nonzero", "argwhere", "masked_select", "where")


def _data_dependent(where: str, what: str) -> ConversionRefused:
    selects = any(selection in what for selection in _SELECTIONS)
    room = f", or give this selection room for the most that it may choose (--capacity {line_of(where)}=48)"
    return ConversionRefused(
        f"a shape or a branch depends on data{f' at {where}' if where else ''} ({what}). A phone needs static shapes: "
        f"choose a fixed number of tokens (topk with a constant k){room if where and selects else ''}"
    )


def _explain(error: Exception, module: nn.Module) -> Exception:
    """The user's error for whatever capture raised."""
    where = source_of_error(error)
    if _is_data_dependent(error):
        return _data_dependent(where, _operator(_causes(error)))
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UsageError(
        f"{type(module).__name__} does not run on its example inputs{f' at {where}' if where else ''}: "
        f"{type(error).__name__}: {first}"
    )


def _untraceable(error: Exception, module: nn.Module) -> ConversionRefused:
    """The refusal of a module that runs in eager, and that PyTorch cannot trace."""
    where = source_of_error(error)
    if _is_data_dependent(error):
        return _data_dependent(where, _operator(_causes(error)))
    return ConversionRefused(
        f"{type(module).__name__} runs, but PyTorch cannot trace it{f' at {where}' if where else ''}: "
        f"{_first_line(error)}. Write that line with operators on tensors alone"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "").rstrip(".") or type(error).__name__


def _causes(error: BaseException) -> list[BaseException]:
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return chain


def _is_data_dependent(error: BaseException) -> bool:
    return any(type(e).__name__ in _DATA_DEPENDENT or "data-dependent" in str(e) for e in _causes(error))


def _operator(chain: list[BaseException]) -> str:
    return next((str(func) for error in chain if (func := getattr(error, "func", None))), "an operator")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep export's own warnings, and its print-out of a graph that failed, from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch.fx", "torch._export", "torch._subclasses")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
