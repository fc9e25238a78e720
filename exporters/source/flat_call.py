"""A call as the user writes it, and a module that takes and returns flat tensors in its place."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from tm_export.exporters.errors import UsageError
from tm_export.exporters.source.nested import Path, leaves_of, rebuilt, unique_name

_CONSTANTS: Final = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    torch.dtype,
    torch.device,
    torch.layout,
)
"""What may stand among tensors: an input of these is a constant of the export, an output is left out."""


@dataclass(frozen=True)
class UserCall:
    """How `forward` is called: its arguments as the user nests them, and a name for each tensor in them."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    input_names: tuple[str, ...]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors among the arguments: contiguous, each with memory of its own, none that asks for a gradient."""
        found = [leaf for _, leaf in leaves_of((self.args, dict(self.kwargs))) if isinstance(leaf, Tensor)]
        pointers: set[int] = set()
        tensors = []
        for tensor in found:
            plain = tensor.detach().contiguous()
            if plain.data_ptr() in pointers or plain.is_inference() or not _is_plainly_strided(plain):
                plain = plain.clone(memory_format=torch.contiguous_format)
            pointers.add(plain.data_ptr())
            tensors.append(plain)
        return tuple(tensors)

    @property
    def is_flat(self) -> bool:
        """Whether all arguments are tensors, given by position."""
        return not self.kwargs and all(isinstance(value, Tensor) for value in self.args)

    def arguments(self, tensors: Sequence[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments over other tensors."""
        own = (self.args, dict(self.kwargs))
        remaining = iter(tensors)
        leaves = (next(remaining) if isinstance(leaf, Tensor) else leaf for _, leaf in leaves_of(own))
        args, kwargs = rebuilt(own, leaves)
        return args, kwargs


def _is_plainly_strided(tensor: Tensor) -> bool:
    """Whether dimensions of one entry have the stride that a new tensor's would: converters read layouts from them."""
    return tensor.stride() == torch.empty(tensor.shape, device="meta").stride()


class FlatCall(nn.Module):
    """A module of the user's, called with flat tensors, returning the tensors of what it returns as a flat tuple."""

    def __init__(self, module: nn.Module, call: UserCall) -> None:
        super().__init__()
        self.module, self.call_as = module, call

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run the module."""
        args, kwargs = self.call_as.arguments(tensors)
        returned = self.module(*args, **kwargs)
        return tuple(leaf for _, leaf in leaves_of(returned) if isinstance(leaf, Tensor))


def user_calls(module: nn.Module, example_inputs: object) -> tuple[UserCall, ...]:
    """The calls of `forward` that example inputs may mean, the likeliest first; one at least.

    Args:
        module: whose `forward` they are for.
        example_inputs: a tensor, or a tuple or list of arguments, or a dict of them by name. A dict that is the last
            of a tuple may name arguments, too. Arguments nest tensors in dicts, lists, tuples, named tuples and
            dataclasses; None, numbers and strings among them are constants.

    Raises:
        UsageError: `forward` does not take them, or something among them is no tensor and no constant.
    """
    if not any(isinstance(leaf, Tensor) for _, leaf in leaves_of(example_inputs)):
        raise UsageError("there are no example inputs: give at least one tensor")
    signature = _signature(module)
    calls: list[UserCall] = []
    problems: list[str] = []
    for args, kwargs in _readings(example_inputs):
        try:
            calls.append(_named(args, kwargs, _by_parameter(signature, args, kwargs)))
        except TypeError as error:
            problems.append(
                f"{type(module).__name__}.forward{signature} does not take "
                f"{len(args) + len(kwargs)} example inputs: {error}"
            )
    if not calls:
        raise UsageError(problems[0])
    return tuple(calls)


def output_names(returned: object, input_names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the tensors that `forward` returned, and of what was left out between them.

    Keys and field names are kept; what has a position alone is `output_0`, `output_1`, …, counted over all tensors. A
    name that an input has gets `_out` behind it.

    Raises:
        UsageError: there is no tensor, or something that may hold tensors and cannot be looked into.
    """
    names: list[str] = []
    left_out: list[str] = []
    for path, leaf in leaves_of(returned):
        if isinstance(leaf, Tensor):
            names.append(_output_name(path, (*names, *input_names), len(names), input_names))
        elif isinstance(leaf, _CONSTANTS):
            left_out.append(repr(leaf))
        else:
            raise UsageError(
                f"forward returns an object of type {type(leaf).__name__}, in which tensors are not looked for: return "
                "tensors, in a tuple, list, dict, named tuple or dataclass if there are several"
            )
    if not names:
        raise UsageError("forward returns no tensor: let it return what the artifact is to compute")
    return tuple(names), tuple(left_out)


def _output_name(path: Path, taken: Sequence[str], position: int, input_names: Sequence[str]) -> str:
    if all(step.isdigit() for step in path):
        return unique_name(("output", str(position)), taken)
    steps = ("output", *path) if path[0].isdigit() else path
    name = unique_name(steps, ())
    return unique_name((*steps, "out"), taken) if name in input_names else unique_name(steps, taken)


def _readings(example_inputs: object) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The ways in which example inputs may be meant as arguments, the likeliest first."""
    if isinstance(example_inputs, Mapping):
        if all(isinstance(key, str) for key in example_inputs):
            yield (), dict(example_inputs)
        yield (example_inputs,), {}
    elif isinstance(example_inputs, tuple | list) and not hasattr(example_inputs, "_fields"):
        args = tuple(example_inputs)
        yield args, {}
        if args and isinstance(args[-1], Mapping) and all(isinstance(key, str) for key in args[-1]):
            yield args[:-1], dict(args[-1])
    else:
        yield (example_inputs,), {}


def _signature(module: nn.Module) -> inspect.Signature | None:
    """The parameters of `forward`; None if they cannot be read."""
    schema = getattr(module.forward, "schema", None)
    if schema is not None:  # TorchScript
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Signature([inspect.Parameter(argument.name, kind) for argument in schema.arguments[1:]])
    try:
        return inspect.signature(module.forward)
    except (TypeError, ValueError):
        return None


def _by_parameter(
    signature: inspect.Signature | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[tuple[Path, object]]:
    """The arguments by name; what `*args` takes is numbered, what `**kwargs` takes has its own names.

    Raises `TypeError` if there is no way to give these.
    """
    if signature is None:
        yield from ((("input", str(i)), value) for i, value in enumerate(args))
        yield from (((name,), value) for name, value in kwargs.items())
        return
    for name, value in signature.bind(*args, **kwargs).arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            yield from (((name, str(i)), each) for i, each in enumerate(value))
        elif kind is inspect.Parameter.VAR_KEYWORD:
            yield from (((key,), each) for key, each in value.items())
        else:
            yield (name,), value


def _named(args: tuple[Any, ...], kwargs: dict[str, Any], arguments: Iterable[tuple[Path, object]]) -> UserCall:
    """The call, its tensors named in the order in which they are given."""
    names: dict[int, list[str]] = {}
    taken: list[str] = []
    for start, value in arguments:
        for path, leaf in leaves_of(value, start):
            if isinstance(leaf, Tensor):
                taken.append(unique_name(path, taken))
                names.setdefault(id(leaf), []).append(taken[-1])
                _refuse_strange(taken[-1], leaf)
            elif not isinstance(leaf, _CONSTANTS):
                raise UsageError(
                    f"example input {'.'.join(path)!r} is of type {type(leaf).__name__}: give a tensor, a number or "
                    "None, or a dict, list, tuple or dataclass of these"
                )
    ordered = [leaf for _, leaf in leaves_of((args, kwargs)) if isinstance(leaf, Tensor)]
    return UserCall(args, kwargs, tuple(names[id(leaf)].pop(0) for leaf in ordered))


def _refuse_strange(name: str, tensor: Tensor) -> None:
    if tensor.is_meta:
        raise UsageError(f"example input {name!r} is on the meta device and has no values: give real ones")
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
        raise UsageError(f"example input {name!r} is sparse, nested or quantised: give a dense tensor")
    if tensor.is_floating_point() and not tensor.isfinite().all():
        raise UsageError(f"example input {name!r} holds NaN or infinity: give finite values")
