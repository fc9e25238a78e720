"""Build a module without memory for its weights: to capture models that are larger than the machine."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode


def fake_module(build: Callable[[], nn.Module]) -> nn.Module:
    """The module, its weights shapes and dtypes alone, that say they are on the CPU as its inputs are.

    `build` must make every buffer that is no weight in `forward`: values made in a constructor are lost.
    """
    with torch.device("meta"):
        module = build()
    kept = set(module.state_dict())
    lost = [name for name, _ in module.named_buffers() if name not in kept]
    assert not lost, f"buffers {lost} are not saved with the weights; compute them in forward"
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
