"""The weights of a program, exchanged for others of the same shapes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind


def tensors_of(program: ExportedProgram) -> dict[str, Tensor]:
    """The parameters and buffers that the program reads, by their names in its signature."""
    stored = {**program.constants, **program.state_dict}
    return {
        str(spec.target): stored[str(spec.target)]
        for spec in program.graph_signature.input_specs
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER)
    }


def with_tensors(program: ExportedProgram, tensors: Mapping[str, Tensor]) -> ExportedProgram:
    """The program over these parameters and buffers; those that are not given stay, what nothing reads goes."""
    kinds = {str(spec.target): spec.kind for spec in program.graph_signature.input_specs}
    state: dict[str, Tensor] = {}
    constants: dict[str, Tensor] = {}
    for name, value in (tensors_of(program) | dict(tensors)).items():
        if name not in kinds:
            continue
        plain = value.detach()
        tensor = nn.Parameter(plain, requires_grad=False) if kinds[name] is InputKind.PARAMETER else plain
        (constants if name in program.constants and name not in program.state_dict else state)[name] = tensor
    lifted = {name: value for name, value in program.constants.items() if kinds.get(name) is not InputKind.BUFFER}
    return ExportedProgram(
        root=program.graph_module,
        graph=program.graph,
        graph_signature=program.graph_signature,
        state_dict=state,
        range_constraints=dict(program.range_constraints),
        module_call_graph=program.module_call_graph,
        example_inputs=None,
        constants={**lifted, **constants},
    )


def is_fake(tensor: Tensor) -> bool:
    """Whether the tensor is a shape without values."""
    return isinstance(tensor, FakeTensor) or tensor.is_meta


def probe_tensor(name: str, like: Tensor) -> Tensor:
    """A tensor of the same shape and dtype whose bytes are found nowhere else: random, from its name alone."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])
    generator = torch.Generator().manual_seed(seed)
    if like.is_floating_point():
        # Positive, and far from overflow: a converter may take roots or logarithms.
        return torch.rand(like.shape, generator=generator, dtype=torch.float32).mul_(0.1).add_(0.01).to(like.dtype)
    if like.dtype is torch.bool:
        return torch.rand(like.shape, generator=generator) < 0.5
    return torch.randint(1, 127, tuple(like.shape), generator=generator, dtype=like.dtype)
