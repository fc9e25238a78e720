"""From a module in hand, with example inputs as its user calls it, to what is exported."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from torch import Tensor, nn
from torch.export import ExportedProgram

from tm_export.exporters.errors import UsageError
from tm_export.exporters.source.evaluation import returned_by
from tm_export.exporters.source.flat_call import FlatCall, UserCall, output_names, user_calls
from tm_export.exporters.source.model_source import ComponentSource, ModelSource
from tm_export.exporters.source.torchscript import without_torchscript
from tm_export.exporters.source.user_module import refuse_unfit, unwrapped

COMPONENT: Final = "model"
"""What the one component of a user's own module is called."""

VARIANT: Final = "full"
"""What its one variant is called, where the user gives a module and no dict of variants."""

Module = nn.Module | ExportedProgram

Modules = Module | Mapping[str, Module]
"""A module or an exported program, or several variants by name that take the same inputs."""


@dataclass(frozen=True)
class _Variant:
    """A module that takes and returns flat tensors, how its user calls it, and what that gives."""

    module: nn.Module
    call: UserCall
    output_names: tuple[str, ...]
    left_out: tuple[str, ...]


def source_of_module(modules: Modules, example_inputs: object, name: str) -> ModelSource:
    """The source of a module in hand, or of several variants; its only component is called `model`.

    The module is run once on the example inputs. One that takes tensors by position and returns tensors, in tuples
    and lists at most, is exported as it is; any other inside a `FlatCall`.

    Args:
        modules: what to export.
        example_inputs: as `user_calls` takes them; of variants that take other shapes, a dict of them by variant.
        name: what the model is called.

    Raises:
        UsageError: one of the three is of the wrong kind, a weight or an input is NaN, or the module does not run.
        ConversionRefused: it is a kind of module that no export can be made of.
    """
    check_name("model", name)
    variants = _variants(modules, name)
    several = (
        isinstance(modules, Mapping) and isinstance(example_inputs, Mapping) and set(example_inputs) == set(modules)
    )
    inputs = (
        example_inputs if several and isinstance(example_inputs, Mapping) else dict.fromkeys(variants, example_inputs)
    )
    made = {variant: _made(variant, module, inputs[variant]) for variant, module in variants.items()}
    first = next(iter(made.values()))
    _refuse_other_signatures(made)
    numbered = tuple(f"output_{i}" for i in range(len(first.output_names)))
    component = ComponentSource(
        name=COMPONENT,
        variants={variant: partial(_given, each.module) for variant, each in made.items()},
        example_inputs=first.call.tensors,
        input_names=first.call.input_names,
        output_names=None if first.output_names == numbered else first.output_names,
        own_inputs={variant: each.call.tensors for variant, each in made.items()} if several else {},
    )
    notes = (_left_out_note(first.left_out),) if first.left_out else ()
    return ModelSource(name=name, components=(component,), weights="module", notes=notes)


def check_name(kind: str, name: object) -> None:
    """Raise `UsageError` unless the name can be a file's on any system."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w. -]*", name):
        raise UsageError(f"{kind} name {name!r} cannot name a file: use letters, digits, '-', '_', '.' and spaces")


def describe(value: object) -> str:
    """What the user gave instead, in words."""
    if isinstance(value, tuple | list):
        items = ", ".join(type(item).__name__ for item in value)
        return f"a {type(value).__name__} of {len(value)} ({items})"
    return "None" if value is None else f"of type {type(value).__name__}"


def _made(variant: str, module: nn.Module, example_inputs: object) -> _Variant:
    refuse_unfit(variant, module)
    call, returned = _first_that_runs(module, user_calls(module, example_inputs))
    module = without_torchscript(module, call)
    names, left_out = output_names(returned, call.input_names)
    flat = module if call.is_flat and _is_plain(returned) else FlatCall(module, call)
    return _Variant(flat, call, names, left_out)


def _first_that_runs(module: nn.Module, calls: Sequence[UserCall]) -> tuple[UserCall, object]:
    """The first of these calls that the module takes, and what it returns; raises what the first raised if none is."""
    problems: list[UsageError] = []
    for call in calls:
        try:
            return call, returned_by(module, call)
        except UsageError as error:
            problems.append(error)
    raise problems[0]


def _is_plain(returned: object) -> bool:
    """Whether it is a tensor, or tuples and lists of tensors."""
    if type(returned) in (tuple, list) and isinstance(returned, tuple | list):
        return all(map(_is_plain, returned))
    return isinstance(returned, Tensor)


def _variants(modules: Modules, name: str) -> dict[str, nn.Module]:
    given = dict(modules) if isinstance(modules, Mapping) else {VARIANT: modules}
    if not given:
        raise UsageError(f"{name} has no variants: give at least one module")
    variants: dict[str, nn.Module] = {}
    for variant, value in given.items():
        check_name("variant", variant)
        module = unwrapped(value)
        if not isinstance(module, nn.Module):
            raise UsageError(
                f"variant {variant!r} of {name} is {describe(module)}: give an nn.Module, or a dict of them"
            )
        variants[variant] = module
    return variants


def _refuse_other_signatures(made: Mapping[str, _Variant]) -> None:
    """Raise `UsageError` unless all variants name the same inputs, and return the same outputs."""
    (first, one), *others = made.items()
    for variant, other in others:
        if other.call.input_names != one.call.input_names:
            raise UsageError(
                f"variant {first!r} takes {', '.join(one.call.input_names)}, and variant {variant!r} takes "
                f"{', '.join(other.call.input_names)}: give forward the same parameters in all variants (one may leave "
                "some unread), or export them as models of their own"
            )
        if other.output_names != one.output_names:
            raise UsageError(
                f"variant {first!r} returns {', '.join(one.output_names)}, and variant {variant!r} returns "
                f"{', '.join(other.output_names)}: let all return the same, or export them as models of their own"
            )


def _left_out_note(left_out: tuple[str, ...]) -> str:
    return (
        f"forward returns {', '.join(left_out)} beside tensors: an artifact returns tensors alone, so that is left out"
    )


def _given(module: nn.Module) -> nn.Module:
    return module
