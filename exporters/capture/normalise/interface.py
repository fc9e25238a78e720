"""What an artifact takes and gives where the module itself does otherwise: 32-bit floats, and its state by value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind

from tm_export.exporters.capture.normalise.widths import widened
from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.graph.nodes import arguments
from tm_export.exporters.source.model_source import ComponentSource, StateName
from tm_export.exporters.source.wrapped import wrapping


@dataclass(frozen=True)
class Interface:
    """What a component's variants write besides what they return, and how many tensors they return.

    Attributes:
        buffers: keys of the module's buffers that `forward` writes.
        inputs: positions of the inputs that it writes.
        returned: the number of tensors that it returns.
        has_other_floats: whether a float that goes in or comes out is not of 32 bits, or a number is complex.
    """

    buffers: tuple[str, ...]
    inputs: tuple[int, ...]
    returned: int
    has_other_floats: bool

    @property
    def is_plain(self) -> bool:
        """Whether the module takes and gives what an artifact can."""
        return not (self.buffers or self.inputs or self.has_other_floats)


def interface_of(
    programs: Mapping[str, ExportedProgram], example_inputs: Sequence[Tensor], further: int = 0
) -> Interface:
    """What captured variants of a component take, give and write, all of them together.

    The last `further` outputs of a program are not the module's own.
    """
    specs = [spec for program in programs.values() for spec in program.graph_signature.output_specs]
    written = [str(spec.target) for spec in specs if spec.kind is OutputKind.BUFFER_MUTATION]
    first = next(iter(programs.values()))
    returned = sum(spec.kind is OutputKind.USER_OUTPUT for spec in first.graph_signature.output_specs)
    crossing = [value for program in programs.values() for value in _returned(program)] + list(example_inputs)
    return Interface(
        buffers=tuple(dict.fromkeys(written)),
        inputs=tuple(sorted({i for program in programs.values() for i in _written_inputs(program)})),
        returned=returned - further,
        has_other_floats=any(_outside(value).dtype is not value.dtype for value in crossing),
    )


def _written_inputs(program: ExportedProgram) -> list[int]:
    names = list(program.graph_signature.user_inputs)
    return [
        names.index(str(spec.target))
        for spec in program.graph_signature.output_specs
        if spec.kind is OutputKind.USER_INPUT_MUTATION
    ]


def _returned(program: ExportedProgram) -> list[Tensor]:
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    returned = (node.meta["val"] for node in arguments(output)[0] if isinstance(node, torch.fx.Node))
    return [value for value in returned if isinstance(value, Tensor)]


def as_artifact(component: ComponentSource, interface: Interface) -> ComponentSource:
    """The component with modules that take and give what its artifact does.

    A buffer that `forward` writes is a further input, with the module's value as its example, and a further output; an
    input that it writes is a further output.

    Raises `ConversionRefused` for a state whose initial value is in a checkpoint that is not read yet.
    """
    if component.weights is not None:
        raise ConversionRefused(
            f"{component.name!r} of a model with a checkpoint writes {', '.join(interface.buffers)} in forward: "
            "let forward take it and return it"
        )
    builders = {
        name: wrapping(build, _AsArtifact, tuple(value.dtype for value in component.inputs_of(name)), interface)
        for name, build in component.variants.items()
    }
    module = next(iter(component.variants.values()))()
    initial = tuple(_outside(_buffer(module, key)) for key in interface.buffers)

    def given(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (*map(_outside, inputs), *initial)

    def drawing(draw: Callable[[int], tuple[Tensor, ...]]) -> Callable[[int], tuple[Tensor, ...]]:
        return lambda seed: given(draw(seed))

    returned = component.output_names or tuple(f"output_{i}" for i in range(interface.returned))
    taken = [*component.input_names, *returned]
    states = []
    for key in interface.buffers:
        name = _free(re.sub(r"\W", "_", key), taken)
        states.append(StateName(name, _free(f"{name}_out", taken)))
    written = [
        StateName(component.input_names[i], _free(f"{component.input_names[i]}_out", taken)) for i in interface.inputs
    ]
    return replace(
        component,
        variants=builders,
        example_inputs=given(component.example_inputs),
        own_inputs={name: given(inputs) for name, inputs in component.own_inputs.items()},
        fresh_inputs={name: drawing(draw) for name, draw in component.fresh_inputs.items()},
        input_names=(*component.input_names, *(state.input for state in states)),
        output_names=(*returned, *(state.output for state in (*states, *written))),
        state=tuple(states + written),
    )


def _free(wanted: str, taken: list[str]) -> str:
    """A name that nothing has yet, which is taken from then on."""
    name, i = wanted, 1
    while name in taken:
        i += 1
        name = f"{wanted}_{i}"
    taken.append(name)
    return name


class _AsArtifact(nn.Module):
    """A module called as its artifact is: floats have 32 bits, and what it writes comes in and goes out by value."""

    def __init__(self, module: nn.Module, dtypes: tuple[torch.dtype, ...], interface: Interface) -> None:
        super().__init__()
        self.module = module
        self._dtypes, self._interface = dtypes, interface

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Run the module over copies of what it writes."""
        count = len(self._dtypes)
        inputs = [_inside(value, dtype) for value, dtype in zip(values[:count], self._dtypes, strict=True)]
        for i in self._interface.inputs:
            inputs[i] = inputs[i].clone()
        own = [_buffer(self.module, key) for key in self._interface.buffers]
        state = {
            key: _inside(value, buffer.dtype).clone()
            for key, value, buffer in zip(self._interface.buffers, values[count:], own, strict=True)
        }
        returned = torch.func.functional_call(self.module, state, tuple(inputs))
        results = [leaf for leaf in pytree.tree_leaves(returned) if isinstance(leaf, Tensor)]
        return tuple(map(_outside, (*results, *state.values(), *(inputs[i] for i in self._interface.inputs))))


def _buffer(module: nn.Module, key: str) -> Tensor:
    return module.get_buffer(key)


def _inside(value: Tensor, dtype: torch.dtype) -> Tensor:
    """A value from outside as the module has it."""
    return (torch.view_as_complex(value) if dtype.is_complex else value).to(dtype)


def _outside(value: Tensor) -> Tensor:
    """A value as it crosses the border: floats in 32 bits, complex numbers as pairs of them."""
    value = value.detach().to(widened(value.dtype))
    return torch.view_as_real(value.resolve_conj()) if value.is_complex() else value


def said(interface: Interface, state: Sequence[StateName]) -> str:
    """What a user is told of an interface that is not the module's own."""
    parts = (
        ["floats go in and come out in 32 bits, complex numbers as pairs of them"] if interface.has_other_floats else []
    )
    kept = ", ".join(f"{each.input} to {each.output}" for each in state)
    parts += [f"what forward writes goes in and comes out: {kept}"] if kept else []
    return "; ".join(parts)
