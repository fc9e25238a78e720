"""Build a module without memory for its weights: to capture models that are larger than the machine."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tm_export.exporters.errors import UsageError


def fake_module(build: Callable[[], nn.Module]) -> nn.Module:
    """The module, its weights shapes and dtypes alone, that say they are on the CPU as its inputs are.

    Raises `UsageError` for a buffer that is not saved with the weights: values made in a constructor are lost.
    """
    with torch.device("meta"):
        module = build()
    kept = set(module.state_dict())
    lost = [name for name, _ in module.named_buffers() if name not in kept]
    if lost:
        raise UsageError(
            f"buffer {lost[0]!r} of {type(module).__name__} is not saved with the weights, so its values are lost "
            "where a model is built without memory: compute it in forward, or make it persistent"
        )
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def fake(tensor: Tensor) -> Tensor:
        with mode:
            return torch.empty(tensor.shape, dtype=tensor.dtype)

    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(fake(parameter), requires_grad=False))
        for name, buffer in list(part.named_buffers(recurse=False)):
            setattr(part, name, fake(buffer))
    return module
