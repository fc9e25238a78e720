"""The first layers of a streamed model in eager, on its real weights: what the captured program is held against.

The module itself does not fit into memory. Each operator gets its weights when it is called and lets go of them after,
and the run ends behind the second of the layers that repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch.utils._pytree as pytree
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.utils._python_dispatch import TorchDispatchMode

from tm_export.exporters.reference.captured_blocks import captured_block
from tm_export.exporters.reference.eager import run_watched
from tm_export.exporters.source.evaluation import evaluated
from tm_export.exporters.weights.readers import WeightReader

LAYERS: Final = 2


@dataclass(frozen=True)
class FirstLayers:
    """What a module computes up to the end of `last`, a path in it, in eager and as it was captured."""

    last: str
    in_eager: Tensor
    captured: Tensor


def run_first_layers(
    module: nn.Module, captured: ExportedProgram, inputs: Sequence[Tensor], weights: WeightReader, seed: int
) -> FirstLayers | None:
    """Run both up to the end of the second of the layers that repeat.

    Args:
        module: without values of its own.
        captured: the module as it was captured.
        inputs: the example inputs.
        weights: by the module's keys.
        seed: of random numbers.

    None where there are no two layers of one kind, or where what they compute is no single tensor.
    """
    reads = [str(name) for name in captured.graph_signature.user_inputs]
    for path in _second_layers(module):
        node = _result_of(captured, path)
        block = None if node is None else captured_block(captured, reads, [node.name])
        if block is None:
            continue
        made = _run_until(path, module, inputs, weights, seed)
        if made is not None:
            (value,) = run_watched(lambda: block.run(inputs, weights.read), seed).outputs  # noqa: B023 - called at once
            return FirstLayers(path, made, value)
    return None


def _second_layers(module: nn.Module) -> list[str]:
    """The paths of the second layers of lists of layers of one kind."""
    lists = [(path, part) for path, part in module.named_modules() if isinstance(part, nn.ModuleList | nn.Sequential)]
    return [
        f"{path}.{LAYERS - 1}".lstrip(".")
        for path, part in lists
        if len(part) > LAYERS and len({type(each) for each in list(part)[:LAYERS]}) == 1
    ]


def _result_of(program: ExportedProgram, path: str) -> fx.Node | None:
    """The one value inside of a part that is read outside of it."""
    inside = [node for node in program.graph.nodes if path in _paths_of(node)]
    read = [node for node in inside if any(path not in _paths_of(user) for user in node.users)]
    return read[0] if len(read) == 1 else None


def _paths_of(node: fx.Node) -> list[str]:
    return [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]


class _Reached(Exception):
    """The last layer has computed this."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value


def _run_until(
    last: str, module: nn.Module, inputs: Sequence[Tensor], weights: WeightReader, seed: int
) -> Tensor | None:
    """What the part called `last` returns, the module having been run up to there."""

    def reached(part: nn.Module, args: Any, returned: object) -> None:
        raise _Reached(returned)

    def run() -> object:
        with _WithValues(module, weights):
            return module(*inputs)

    hook = module.get_submodule(last).register_forward_hook(reached)
    try:
        with evaluated(module):
            run_watched(run, seed)
    except _Reached as end:
        value = end.value[0] if isinstance(end.value, tuple) and end.value else end.value
        plain = isinstance(value, Tensor) and not isinstance(value, FakeTensor)
        return value.detach() if plain else None  # type: ignore[union-attr]
    except Exception:  # whatever PyTorch raises where a tensor that has no values is read
        return None
    finally:
        hook.remove()
    return None


class _WithValues(TorchDispatchMode):  # type: ignore[no-untyped-call]  # its base has an untyped __init_subclass__
    """Gives each operator the values of the weights that it reads, and lets go of them after it.

    Whose weights they are does not matter: a model may read those of a part that it does not call.
    """

    def __init__(self, module: nn.Module, weights: WeightReader) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._weights = weights
        self._keys: dict[int, str] = {}
        for key, tensor in (*module.named_parameters(), *module.named_buffers()):
            self._keys.setdefault(id(tensor), key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = pytree.tree_map_only(Tensor, self._value, (args, kwargs or {}))
        return func(*args, **kwargs)

    def _value(self, tensor: Tensor) -> Tensor:
        key = self._keys.get(id(tensor))
        return tensor if key is None else self._weights.read(key).detach().to(tensor.dtype)
