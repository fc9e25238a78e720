"""Constants that XNNPACK's delegate frees: it may own only those that it packs.

While a program is loaded, the delegate copies the weights of products and convolutions into a layout of its own, and
then frees every constant that it was given, the others too. An operator that reads its constant in place then reads
freed memory: from a file that is mapped into memory, as on a phone, the process crashes; from a buffer in memory
nothing is noticed. Seen with ExecuTorch 1.4.1, mended later (pull requests 21480 and 22779 of pytorch/executorch).

The partitioner leaves constants outside that are not packed, but goes by the constant, not by the use: one that is a
weight here and a summand there is taken along, and so is PReLU's slope.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.graph.constants import add_constants
from tm_export.exporters.graph.nodes import placeholders_of
from tm_export.exporters.graph.user_line import source_line

_WEIGHT: Final = {"linear": (1, 2), "conv": (1, 2), "mm": (1,), "bmm": (1,), "matmul": (1,), "addmm": (0, 2)}
"""Which arguments of an operator are packed, by the beginning of its name."""

_VIEWS: Final = ("permute", "t.", "t_copy", "transpose", "view", "reshape", "unsqueeze", "squeeze")


def separate_packed_constants(program: ExportedProgram) -> tuple[ExportedProgram, dict[str, str]]:
    """Return the program with a copy of each weight that is also read otherwise, for those who read it so.

    Also returns of what each is a copy, by name.
    """
    tensors = {**program.constants, **program.state_dict}
    targets = {
        spec.arg.name: str(spec.target)
        for spec in program.graph_signature.input_specs
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER)
    }
    shared = []
    for node in placeholders_of(program.graph):
        others = [user for user in node.users if not _is_weight(node, user)]
        if node.name in targets and others and len(others) < len(node.users):
            shared.append((node, others))
    if not shared:
        return program, {}
    program, copies = add_constants(program, [tensors[targets[node.name]].detach().clone() for node, _ in shared])
    for (node, others), copy in zip(shared, copies, strict=True):
        for user in others:
            user.replace_input_with(node, copy)
            if user.op == "output":
                for spec in program.graph_signature.output_specs:
                    spec.arg.name = copy.name if spec.arg.name == node.name else spec.arg.name
    return program, {copy.name: targets[node.name] for (node, _), copy in zip(shared, copies, strict=True)}


def refuse_unpacked_constants(lowered: fx.GraphModule) -> None:
    """Raise `ConversionRefused` for a delegate that owns a constant which it does not pack."""
    for module in lowered.modules():
        original = getattr(module, "original_module", None)
        if getattr(module, "backend_id", None) != "XnnpackBackend" or not isinstance(original, ExportedProgram):
            continue
        signature = original.graph_signature
        owned = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        owned |= signature.inputs_to_lifted_tensor_constants
        for node in original.graph.nodes:
            if node.op == "placeholder" and node.name in owned:
                for reader, user in _readers(node):
                    if not _is_weight(reader, user):
                        raise ConversionRefused(
                            f"XNNPACK's delegate frees a constant that {_name(user)} still reads, at "
                            f"{source_line(user) or user.name}: the program would crash on a phone; "
                            "write it in other operators, or choose --backend portable"
                        )


def _readers(node: fx.Node) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Who reads the constant, itself or a view of it."""
    for user in node.users:
        if user.op == "call_function" and _name(user).startswith(_VIEWS):
            yield from _readers(user)
        elif user.op == "call_function":
            yield node, user


def _is_weight(node: fx.Node, user: fx.Node) -> bool:
    name = _name(user)
    places = next((places for start, places in _WEIGHT.items() if name.startswith(start)), ())
    read = [place for place, argument in enumerate(user.args) if argument is node]
    return bool(read) and all(place in places for place in read)  # else within a list: a concatenation, the outputs


def _name(node: fx.Node) -> str:
    target: Any = node.target
    operator = target if isinstance(target, torch._ops.OpOverload) else getattr(target, "_op", None)  # edge dialect
    return operator._schema.name.split("::")[-1] if isinstance(operator, torch._ops.OpOverload) else str(target)
