"""Export calls of operators to a target, and hold what its engine computes against PyTorch."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

import torch
from calls import Call, expected_of, module_of
from limits import LIMITS
from torch import Tensor
from torch.export import ExportedProgram

from tm_export.exporters.capture.capture import capture
from tm_export.exporters.capture.normalise import normalise
from tm_export.exporters.convert.convert import lower
from tm_export.exporters.errors import ExportError
from tm_export.exporters.merging.raise_merges import raise_merges
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.reference.gates import gate_for
from tm_export.exporters.reference.replay import replay
from tm_export.exporters.targets.base import Function, Signature, Target
from tm_export.exporters.targets.culprit import emit_or_name
from tm_export.exporters.targets.specs import as_declared, tensor_specs
from tm_export.exporters.verify.artifact import run_artifact, run_lowered
from tm_export.runtime import manifest
from tm_export.runtime.engines import engines_for
from tm_export.runtime.run.closeness import difference

Verdict = Literal["right", "refused", "limit", "wrong", "crash"]
SEEDS: Final = (0, 1)
"""Calls are captured with the inputs of the first, and run on those of all."""
OPTIONS: Final = ExportOptions(precision="fp32")
NAME: Final = "operators"


@dataclass(frozen=True)
class Outcome:
    """What became of calls: one verdict for all, and what was said.

    `refused` is a refusal with one of the documented exit codes; `limit` other numbers, for a reason that `LIMITS`
    states; `wrong` other numbers than PyTorch's; `crash` any other error.
    """

    verdict: Verdict
    said: str = ""


class OtherNumbers(Exception):
    """Something computes other numbers than PyTorch."""


@lru_cache(maxsize=64)
def raised_of(calls: tuple[Call, ...]) -> ExportedProgram:
    """The calls as one program, its merges recognised.

    Raises what capture raises, and `OtherNumbers` if that program does not compute what PyTorch does.
    """
    captured = normalise(capture(module_of(calls), inputs_of(calls, SEEDS[0])))
    program = raise_merges(captured, seed=0).program
    for seed in SEEDS:
        hold(calls, replay(program, inputs_of(calls, seed)).outputs, expected_of(calls, seed))
    return program


def inputs_of(calls: tuple[Call, ...], seed: int) -> tuple[Tensor, ...]:
    """The inputs of all calls."""
    return tuple(value for each in calls for value in each.draw(seed))


def outcome_of(calls: tuple[Call, ...], target: Target) -> Outcome:
    """Export the calls in one artifact, and run it."""
    try:
        program = raised_of(calls)
    except OtherNumbers as error:
        return Outcome("wrong", f"before conversion: {error}")
    except Exception as error:
        return _refused(error)
    try:
        with tempfile.TemporaryDirectory() as folder:
            _run(calls, program, target, Path(folder))
            return Outcome("right")
    except OtherNumbers as error:
        limit = LIMITS.get((target.name, calls[0].text)) if len(calls) == 1 else None
        return Outcome("limit", limit) if limit else Outcome("wrong", str(error))
    except Exception as error:
        return _refused(error)


def hold_rewriting(calls: tuple[Call, ...], target: Target) -> None:
    """Raise `OtherNumbers` if the calls as the target has them written do not compute what PyTorch does."""
    lowered = lower(raised_of(calls), target, OPTIONS).program
    for seed in SEEDS:
        hold(calls, run_lowered(lowered, inputs_of(calls, seed)), expected_of(calls, seed))


def _refused(error: Exception) -> Outcome:
    """A refusal is one that a user can act upon; everything else is a crash."""
    if isinstance(error, ExportError):
        is_theirs = error.exit_code in (2, 3) and "does not run" not in str(error)
        return Outcome("refused" if is_theirs else "crash", f"exit {error.exit_code}: {error}")
    first = next(iter(str(error).splitlines()), "")
    return Outcome("crash", f"{type(error).__name__}: {first}")


def is_native(operator: str, each: Call, target: Target) -> bool:
    """Whether the target's converter is given the operator of this call itself, under any overload of its name.

    If not, the rules wrote it in others before.
    """
    lowered = lower(raised_of((each,)), target, OPTIONS).program
    packet = operator.rpartition(".")[0]
    return any(str(node.target).rpartition(".")[0] == packet for node in lowered.graph.nodes)


def _run(calls: tuple[Call, ...], program: ExportedProgram, target: Target, folder: Path) -> None:
    """Emit the program, and raise `OtherNumbers` if it does not compute what PyTorch does."""
    expected = [expected_of(calls, seed) for seed in SEEDS]
    given = [inputs_of(calls, seed) for seed in SEEDS]
    for wanted in expected:  # an export refuses integers that the target does not hold
        for spec, each in zip(tensor_specs([f"y{i}" for i in range(len(wanted))], wanted, target), wanted, strict=True):
            as_declared(spec, each)
    inputs = tensor_specs([f"x{i}" for i in range(len(given[0]))], given[0], target)
    declared = [each.float() if each.is_floating_point() else each for each in expected[0]]  # as artifacts have it
    outputs = tensor_specs([f"y{i}" for i in range(len(declared))], declared, target)
    signature = Signature(tuple(spec.name for spec in inputs), tuple(spec.name for spec in outputs))
    lowered = lower(program, target, OPTIONS).program
    if len(calls) == 1:  # as an export does, which says what it refuses
        emit_or_name(target, {NAME: Function(lowered, signature)}, folder, NAME, OPTIONS)
    else:
        target.emit({NAME: Function(lowered, signature)}, folder, NAME, OPTIONS)
    path, function = folder / target.artifact(NAME, NAME), target.function(NAME, 1)
    variant = manifest.Variant(
        name=NAME, artifact=path.name, function=function, inputs=inputs, outputs=outputs, activation_bytes=0
    )
    for engine in engines_for(target.name):
        for made, wanted in zip(run_artifact(engine, path, variant, given), expected, strict=True):
            hold(calls, made, wanted)


def hold(calls: tuple[Call, ...], made: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Raise `OtherNumbers` at the first output that is not PyTorch's."""
    for i, (result, wanted) in enumerate(zip(made, expected, strict=True)):
        single = wanted.dim() == 0 and result.numel() == 1  # an artifact may give one number as an array of one
        array = (result.reshape(()) if single else result).numpy()
        widened = wanted.float() if wanted.is_floating_point() else wanted
        if not gate_for("fp32", wanted.dtype).holds(difference(array, widened.numpy())):
            where = f"{calls[0]}: " if len(calls) == 1 else ""
            raise OtherNumbers(f"{where}output {i} is {_numbers(result)}, not {_numbers(wanted)}")


def _numbers(tensor: Tensor) -> str:
    shown = ", ".join(
        f"{value:.6g}" if isinstance(value, float) else str(value) for value in tensor.flatten().tolist()[:6]
    )
    return (
        f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)} [{shown}{', …' if tensor.numel() > 6 else ''}]"
    )


torch.set_num_threads(1)
