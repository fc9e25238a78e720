"""A module of the user's inside one of ours, that goes by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


def wrapping(build: Callable[[], nn.Module], wrapper: type[nn.Module], *arguments: Any) -> Callable[[], nn.Module]:
    """A builder of `wrapper(module, *arguments)`, in the module's mode.

    Messages name the class of the module that they are about, so the wrapper's is called as the user's.
    """

    def build_wrapped() -> nn.Module:
        module = build()
        made: nn.Module = type(type(module).__name__, (wrapper,), {})(module, *arguments)
        return made.train(module.training)

    return build_wrapped
