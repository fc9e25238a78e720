"""Tensors inside what people nest them in: dicts, lists, named tuples, dataclasses, and what PyTorch's pytree knows."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from typing import Any, Final

import torch.utils._pytree as pytree
from torch import Tensor

Path = tuple[str, ...]
"""How a leaf is reached: keys, field names, and positions as digits."""


def leaves_of(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """What is no container, tensors among it, with the way to each, in order."""
    children = _children(value)
    if children is None:
        yield path, value
        return
    for name, child in children:
        yield from leaves_of(child, (*path, name))


def rebuilt(like: Any, leaves: Iterator[object]) -> Any:
    """The same nesting around other leaves, which are taken from the iterator in the order of `leaves_of`."""
    children = _children(like)
    if children is None:
        return next(leaves)
    values = [rebuilt(child, leaves) for _, child in children]
    if isinstance(like, MutableMapping):
        mapping = copy.copy(like)
        mapping.update(zip(like, values, strict=True))
        return mapping
    if isinstance(like, Mapping):
        return dict(zip(like, values, strict=True))
    if isinstance(like, tuple | list):
        return type(like)(*values) if hasattr(like, "_fields") else type(like)(values)
    if dataclasses.is_dataclass(like):
        instance = copy.copy(like)
        for (name, _), value in zip(children, values, strict=True):
            object.__setattr__(instance, name, value)
        return instance
    node = pytree.SUPPORTED_NODES[type(like)]
    return node.unflatten_fn(values, node.flatten_fn(like)[1])


_RESERVED: Final = frozenset({
    "any", "bool", "program", "func", "tensor", "list", "dict", "tuple", "true", "false", "string", "state",
    "bf16", "fp16", "fp32", "fp64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
})  # fmt: skip
"""What an ML program cannot name a value: coremltools would rename it."""


def unique_name(path: Path, taken: Collection[str]) -> str:
    """The path as one identifier that none of the others is, and no word of Core ML's own: that gets `_` behind it."""
    name = re.sub(r"\W+", "_", "_".join(path)).strip("_") or "value"
    name = name if not name[0].isdigit() else f"_{name}"
    name = f"{name}_" if name in _RESERVED else name
    number = 2
    chosen = name
    while chosen in taken:
        chosen = f"{name}_{number}"
        number += 1
    return chosen


def _children(value: Any) -> list[tuple[str, object]] | None:
    """What a container holds, by name; None for what is none."""
    if isinstance(value, Tensor):
        return None
    if isinstance(value, Mapping):
        return [(str(key), child) for key, child in value.items()]
    if isinstance(value, tuple | list):
        names = getattr(value, "_fields", None) or map(str, range(len(value)))
        return list(zip(names, value, strict=True))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    if type(value) in pytree.SUPPORTED_NODES:
        children, _ = pytree.SUPPORTED_NODES[type(value)].flatten_fn(value)
        return [(str(i), child) for i, child in enumerate(children)]
    return None
