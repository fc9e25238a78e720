"""The type of a table of operations."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch import Tensor

Operation: TypeAlias = Callable[..., Tensor | Sequence[Tensor]]
Table: TypeAlias = dict[str, Operation]
