"""Give export the values that do not depend on inputs: random draws, and masks made of them.

`torch.export` knows only shapes, and refuses to go on when a shape follows from a mask's values, though nothing but
the seed decides them. Here such values are computed beside the tracing, and a mask that is known is replaced by the
positions that it chooses.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

_DRAWS: Final = {torch.rand, torch.randn, torch.randint, torch.randperm}
_INDEXING: Final = {Tensor.__getitem__, Tensor.__setitem__}


class KnownValues(TorchFunctionMode):
    """Keeps, for each traced tensor that no input reaches, its value."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)
        self._known: dict[int, tuple[Tensor, Tensor]] = {}  # the traced tensor is kept, so that its id stays its own

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one function of the user's code, and its twin on known values."""
        kwargs = kwargs or {}
        if func in _DRAWS:
            with _disable_current_modes():
                drawn = func(*args, **{**kwargs, "generator": self._generator})
            return self._remember(torch.ops.aten.clone.default(drawn), drawn)
        if func in _INDEXING:
            args = (args[0], self._positions(args[1]), *args[2:])
        result = func(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        writes = func is Tensor.__setitem__ or getattr(func, "__name__", "").rstrip("_") != getattr(
            func, "__name__", ""
        )
        if isinstance(result, Tensor) and tensors and not writes and all(id(t) in self._known for t in tensors):
            known_args, known_kwargs = tree_map(self._value, (args, kwargs))
            with _disable_current_modes():
                value = func(*known_args, **known_kwargs)
            return self._remember(result, value)
        if writes and tensors:
            self._known.pop(id(tensors[0]), None)
        return result

    def _remember(self, traced: Tensor, value: Tensor) -> Tensor:
        self._known[id(traced)] = (traced, value)
        return traced

    def _value(self, leaf: Any) -> Any:
        return self._known[id(leaf)][1] if isinstance(leaf, Tensor) else leaf

    def _positions(self, index: Any) -> Any:
        """The index with every known mask replaced by the positions that it chooses."""
        replaced: list[Any] = []
        for one in index if isinstance(index, tuple) else (index,):
            known = self._known.get(id(one))
            if known is None or known[1].dtype != torch.bool:
                replaced.append(one)
                continue
            with _disable_current_modes():
                replaced += [positions.clone() for positions in known[1].nonzero(as_tuple=True)]
        return tuple(replaced) if isinstance(index, tuple) or len(replaced) > 1 else replaced[0]


class WithKnownValues(nn.Module):
    """A module whose forward runs with `KnownValues`: inside export, where the tracing is."""

    def __init__(self, module: nn.Module, seed: int) -> None:
        super().__init__()
        self.module, self.seed = module, seed

    def forward(self, *inputs: Tensor) -> Any:
        """Run the module."""
        with KnownValues(self.seed):
            return self.module(*inputs)
