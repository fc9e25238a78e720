"""TorchScript modules, made into ordinary ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._export.converter import TS2EPConverter

from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.source.evaluation import returned_by
from tm_export.exporters.source.flat_call import UserCall
from tm_export.exporters.source.nested import leaves_of
from tm_export.exporters.source.user_module import unwrapped


def without_torchscript(module: nn.Module, call: UserCall) -> nn.Module:
    """The module itself, or of a traced or scripted one its graph as an ordinary module, which returns the same.

    Raises `ConversionRefused` if PyTorch cannot convert it.
    """
    if not isinstance(module, torch.jit.ScriptModule):
        return module
    wanted = returned_by(module, call)
    args, kwargs = call.arguments(call.tensors)
    try:
        converted = unwrapped(TS2EPConverter(module.eval(), args, kwargs).convert())
    except Exception as error:
        raise _refused(module, "PyTorch cannot turn it into a graph") from error
    assert isinstance(converted, nn.Module)
    if not _is_same(returned_by(converted, call), wanted):
        raise _refused(module, "what PyTorch makes a graph of it computes something else")
    return converted


def _is_same(one: object, other: object) -> bool:
    pairs = [[leaf for _, leaf in leaves_of(value) if isinstance(leaf, Tensor)] for value in (one, other)]
    return len(pairs[0]) == len(pairs[1]) and all(
        mine.shape == its.shape and mine.dtype == its.dtype and torch.allclose(mine, its, equal_nan=True)
        for mine, its in zip(*pairs, strict=True)
    )


def _refused(module: nn.Module, why: str) -> ConversionRefused:
    name = getattr(module, "original_name", type(module).__name__)
    return ConversionRefused(
        f"{name} is a TorchScript module, and {why}: return the module that was traced or scripted"
    )
