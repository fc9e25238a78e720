"""From what users call a module to one that can be exported: wrappers are taken off, what cannot be is refused."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.nn.parameter import is_lazy

from tm_export.exporters.errors import ConversionRefused, UsageError
from tm_export.models.checkpoints.finite import is_finite


def unwrapped(given: object) -> object:
    """The module inside `torch.compile`, `DataParallel` and the like, and the module of an exported program."""
    if isinstance(given, ExportedProgram):
        return _evaluable(given.module())
    if isinstance(given, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrapped(given.module)
    if isinstance(given, nn.Module) and isinstance(inner := getattr(given, "_orig_mod", None), nn.Module):
        return unwrapped(inner)
    return _evaluable(given) if isinstance(given, torch.fx.GraphModule) else given


def _evaluable(module: Any) -> Any:
    """Let the module of an exported program, which refuses it, be put into evaluation mode: its graph is the same."""
    for name in ("train", "eval"):
        module.__dict__.pop(name, None)
    return module


def refuse_unfit(variant: str, module: nn.Module) -> None:
    """Raise an `ExportError` for a module that no export can be made of.

    Raises:
        UsageError: a weight has no value yet, or one that is no number; a mask in a buffer may well be infinite.
        ConversionRefused: a part of it is quantised, or TorchScript.
    """
    is_script = isinstance(module, torch.jit.ScriptModule)
    for name, part in () if is_script else module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise ConversionRefused(
                f"part {name!r} of variant {variant!r} is a TorchScript module: leave it as it was before torch.jit"
            )
        if _is_quantized(part):
            raise ConversionRefused(
                f"part {name!r} of variant {variant!r} is quantised ({type(part).__name__} of "
                f"{type(part).__module__.rpartition('.')[0]}), which no target takes: return the module as it was "
                "before, and choose --weights fp16 for smaller weights"
            )
    for name, weight in _weights(module):
        if is_lazy(weight):
            raise UsageError(
                f"{name!r} of variant {variant!r} has no shape yet: run the module once, or load its weights, before "
                "you return it"
            )
        if weight.is_meta:
            raise UsageError(
                f"{name!r} of variant {variant!r} is on the meta device and has no values: load the module's weights "
                "before you return it (load_state_dict with assign=True)"
            )
    for name, parameter in module.named_parameters():
        if not is_finite(parameter):
            raise UsageError(f"parameter {name!r} of variant {variant!r} holds NaN or infinity: give finite weights")
    for name, buffer in module.named_buffers():
        if buffer.isnan().any():
            raise UsageError(f"buffer {name!r} of variant {variant!r} holds NaN: give it numbers")


def _weights(module: nn.Module) -> Iterator[tuple[str, Any]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _is_quantized(part: nn.Module) -> bool:
    return any(
        base.__module__.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized"))
        for base in inspect.getmro(type(part))
    )
