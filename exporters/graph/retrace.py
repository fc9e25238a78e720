"""Run a program's graph through a translator and record what comes out as a new program.

Every graph change in this package is made this way. A translator is handed one node at a time with the
values of its inputs; it either computes the node's result its own way, in ordinary PyTorch, or lets the node
be. What it computes is traced, so shapes and dtypes are derived, never written by hand, and each new node keeps
the source line of the node that it came from. A node that is let be keeps its value too, if that follows from the same
operator, arguments and inputs as before: PyTorch takes milliseconds to derive one.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

import torch
import torch.fx.traceback as fx_traceback
import torch.utils._pytree as pytree
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.export import ExportedProgram, ModuleCallEntry
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from torch.fx.experimental.proxy_tensor import (
    disable_proxy_modes_tracing,
    get_proxy_mode,
    make_fx,
    track_tensor_tree,
)

import tm_export.exporters.graph.torch_patches  # noqa: F401  # for all passes, PyTorch's own among them
from tm_export.exporters.graph.nodes import arguments, fake_mode_of, placeholders_of, value_of

_DERIVATION: Final = "derivation"
"""Key, among a node's notes, of what its value follows from."""


CAPTURED: Final = "captured"
"""Key, among a node's notes, of the captured program's node that has the same value: see `note_captured`."""
_STANDS_FOR: Final = "stands for"
"""The same, on its way: notes are copied to all that a translator makes of a node, and only the last has its value."""


class _Keep:
    """The answer of a translator that lets a node be."""


KEEP = _Keep()

_VIEWS: Final = (
    torch.ops.aten.reshape.default, torch.ops.aten.view.default, torch.ops.aten.expand.default,
    torch.ops.aten.narrow.default,
)  # fmt: skip


class Values:
    """The values computed so far, by node of the old graph."""

    def __init__(self, env: Mapping[fx.Node, Any]) -> None:
        self._env = env

    def __call__(self, argument: Any) -> Any:
        """Replace every node inside `argument` (a node, constant, list or tuple) by its value."""
        return fx.node.map_arg(argument, lambda node: self._env[node])


class Translator(Protocol):
    """Translates one node: returns the node's value, or `KEEP`."""

    def __call__(self, node: fx.Node, values: Values, /) -> Any:
        """Compute the value of `node`, or return `KEEP` to leave it as it is."""
        ...


class _Retracer(fx.Interpreter):
    def __init__(self, graph_module: fx.GraphModule, translate: Translator) -> None:
        # A translator may look up values behind a node, so none is dropped early. They are fakes: no memory.
        super().__init__(graph_module, garbage_collect_values=False)
        self.extra_traceback = False  # an error's message is for the user
        self._translate = translate

    def run(self, *args: Any, **options: Any) -> Any:
        # Tracing would have every look at a shape pass through modes that note what is of no use here.
        with torch._C.DisableTorchFunction():
            return super().run(*args, **options)

    def run_node(self, n: fx.Node) -> Any:
        value = self._value(n)
        if CAPTURED in n.meta and n.op == "call_function" and isinstance(value, Tensor):
            made = _tracer().unwrap_proxy(value)
            if isinstance(made, fx.Proxy):
                made.node.meta.setdefault(_STANDS_FOR, n.meta[CAPTURED])
        return value

    def _value(self, n: fx.Node) -> Any:
        if n.op not in ("call_function", "output"):
            return super().run_node(n)
        with fx_traceback.set_current_meta(n):
            result = self._translate(n, Values(self.env))
            if result is not KEEP:
                return result
            if not isinstance(n.target, OpOverload):
                return super().run_node(n)
            given = fx.node.map_arg((n.args, n.kwargs), self.env.__getitem__)
            derivation = _derivation(n.target, given)
            is_known = n.meta.get(_DERIVATION) == derivation
            value = _recorded(n.target, given, n.meta["val"]) if is_known else super().run_node(n)
            made = _node_of(value)
            if made is not None and made.target is n.target:
                made.meta[_DERIVATION] = derivation
            return value


def _derivation(called: OpOverload, given: Any) -> str:
    """All that a node's shapes, strides and dtypes follow from, as text: so 1, 1.0 and True differ."""

    def described(value: Any) -> Any:
        if isinstance(value, Tensor):
            return tuple(value.shape), value.stride(), value.storage_offset(), value.dtype
        return value

    return f"{called}{pytree.tree_map(described, given)}"


def _recorded(called: OpOverload, given: Any, value: Any) -> Any:
    """Add a call to the graph that is being traced, whose value is known already."""
    tracer = _tracer()
    with disable_proxy_modes_tracing():
        args, kwargs = pytree.tree_map(tracer.unwrap_proxy, given)
        name = tracer.graph._target_to_str(called.overloadpacket.__name__)
        proxy = tracer.create_proxy("call_function", called, args, kwargs, name=name)
        return track_tensor_tree(value, proxy, constant=None, tracer=tracer)


def _node_of(value: Any) -> fx.Node | None:
    """The node, in the graph that is being traced, that makes a value: a tensor, or several of one call."""
    proxy = _tracer().unwrap_proxy(next(iter(pytree.tree_leaves(value)), None))
    if not isinstance(proxy, fx.Proxy):  # a constant, or nothing
        return None
    node: Any = proxy.node
    made: fx.Node = node.args[0] if node.target is operator.getitem else node
    return made


def _tracer() -> Any:
    mode = get_proxy_mode()
    assert mode is not None, "a graph is being traced"
    return mode.tracer


def note_captured(program: ExportedProgram) -> None:
    """Note on every node that it is the captured program's, so that what is made of it can be held against it."""
    for node in program.graph.nodes:
        node.meta[CAPTURED] = node.name


def retrace(program: ExportedProgram, translate: Translator) -> ExportedProgram:
    """Return `program` with every node replaced by what `translate` makes of it.

    Inputs, parameters, buffers and their names stay; the outputs keep their order. What a translator returns behind the
    outputs is returned, too.
    """
    old_placeholders = placeholders_of(program.graph)
    examples = [node.meta["val"] for node in old_placeholders]
    with fake_mode_of(program), fx_traceback.preserve_node_meta():
        traced = make_fx(_Retracer(program.graph_module, translate).run, pre_dispatch=True)(*examples)
    _drop_empty_views(traced.graph)
    traced.graph.eliminate_dead_code()
    new_placeholders = placeholders_of(traced.graph)
    taken = {old.name for old in old_placeholders}
    for node in traced.graph.nodes:
        # Of the provenance only the user's line is kept: PyTorch copies the whole chain anew for each node and pass.
        stands_for = node.meta.get(_STANDS_FOR)
        node.meta = {key: node.meta[key] for key in ("val", "stack_trace", _DERIVATION) if key in node.meta}
        if stands_for is not None:
            node.meta[CAPTURED] = stands_for
        if node.op == "call_function" and node.name in taken:
            node._rename(f"{node.name}_value")
    for new, old in zip(new_placeholders, old_placeholders, strict=True):
        new.name = new.target = old.name  # `_rename` would refuse `input`, a name of Python's own
        new.meta = dict(old.meta)
    (output,) = (node for node in traced.graph.nodes if node.op == "output")
    results = output.args[0] if isinstance(output.args[0], list | tuple) else (output.args[0],)
    output.args = (tuple(results),)
    output_specs = [
        OutputSpec(spec.kind, TensorArgument(value.name), spec.target)
        for spec, value in zip(program.graph_signature.output_specs, results, strict=False)
    ]
    further = results[len(output_specs) :]
    output_specs += [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(value.name), None) for value in further]
    return with_graph(program, traced, program.graph_signature.input_specs, output_specs)


def _drop_empty_views(graph: fx.Graph) -> None:
    """Erase views to the shape that a tensor has already: what a translator need not take care of."""
    for node in graph.nodes:
        if node.op == "call_function" and node.target in _VIEWS:
            source = arguments(node)[0]
            if value_of(source).shape == value_of(node).shape:
                if _STANDS_FOR in node.meta:
                    source.meta.setdefault(_STANDS_FOR, node.meta[_STANDS_FOR])
                node.replace_all_uses_with(source)


def with_graph(
    program: ExportedProgram,
    graph_module: fx.GraphModule,
    input_specs: Sequence[InputSpec],
    output_specs: Sequence[OutputSpec],
    buffers: Mapping[str, Tensor] | None = None,
) -> ExportedProgram:
    """Return `program` over another graph, with further buffers; specs are in the order of the graph."""
    graph_module.graph.lint()
    graph_module.recompile()
    return ExportedProgram(
        root=graph_module,
        graph=graph_module.graph,
        graph_signature=ExportGraphSignature(list(input_specs), list(output_specs)),
        state_dict={**program.state_dict, **(buffers or {})},
        range_constraints=dict(program.range_constraints),
        module_call_graph=_call_graph(program, len(output_specs)),
        example_inputs=program.example_inputs,
        constants=program.constants,
    )


def _call_graph(program: ExportedProgram, outputs: int) -> list[ModuleCallEntry]:
    """The record of how the whole program is called: its results are a flat tuple from here on."""
    root = program.module_call_graph[0]
    assert root.signature is not None
    flat = pytree.tree_structure(tuple(range(outputs)))
    signature = replace(root.signature, out_spec=flat)
    return [ModuleCallEntry(root.fqn, signature)]
