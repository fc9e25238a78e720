"""What a user can choose about an export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from tm_export.exporters.errors import UsageError
from tm_export.runtime.units import SizeError, parse_budget

Precision = Literal["fp32", "fp16"]
Backend = Literal["xnnpack", "coreml", "portable"]
MergeLowering = Literal["auto", "gather", "onehot", "rank", "arith"]


Extent = Literal["all", "converted"]


@dataclass(frozen=True)
class Effort:
    """Choices that change how an export works, and not what an artifact contains.

    `jobs` conversions run at a time. `verify` all blocks and all of them together, or one block of each program
    that was converted. `resume` goes on where an export of the same was interrupted.
    """

    jobs: int = 1
    verify: Extent = "all"
    resume: bool = True

    def __post_init__(self) -> None:
        """Refuse values outside the lists above."""
        if self.jobs < 1:
            raise UsageError(f"jobs {self.jobs} is too few: give at least 1")
        if self.verify not in get_args(Extent):
            raise UsageError(f"verify {self.verify!r} is not known: choose one of {', '.join(get_args(Extent))}")


_EXAMPLE: Final = "give a number, or a line and a number, such as my_model.py:18=48"


@dataclass(frozen=True)
class Capacities:
    """The most that a selection by a mask may choose.

    Attributes:
        everywhere: for each selection whose count is not known and that has no capacity of its own.
        by_line: by `file.py:18`.
    """

    everywhere: int | None = None
    by_line: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is no number of places."""
        for value in (self.everywhere, *(value for _, value in self.by_line)):
            if value is not None and value < 2:
                raise UsageError(f"capacity {value} is too small: give at least 2 (for one token, take the argmax)")

    def __bool__(self) -> bool:
        return self.everywhere is not None or bool(self.by_line)


NO_CAPACITIES: Final = Capacities()


@dataclass(frozen=True)
class ExportOptions:
    """Choices that change what an artifact contains.

    `precision` None means the target's own default: fp16 for Core ML, fp32 elsewhere. `backend` is ExecuTorch's.
    `seed` fixes random choices made inside the model, such as a random split of tokens. `block_budget` bounds the
    bytes of each block, its weights and activations together; None gives one block. `component_budgets` are those of
    components that have one of their own. `weights` is what they are stored in, the precision unless given: fp16 under
    fp32 halves the files and changes nothing else. `capacities` are the most tokens that selections by a mask may
    choose.
    """

    precision: Precision | None = None
    backend: Backend = "xnnpack"
    merge_lowering: MergeLowering = "auto"
    seed: int = 0
    block_budget: int | None = None
    weights: Precision | None = None
    component_budgets: tuple[tuple[str, int | None], ...] = ()
    capacities: Capacities = NO_CAPACITIES

    def __post_init__(self) -> None:
        """Refuse values outside the lists above, and a budget that nothing fits."""
        for budget in (self.block_budget, *(budget for _, budget in self.component_budgets)):
            if budget is not None and budget <= 0:
                raise UsageError(f"block budget {budget} is no size: give a positive number of bytes")
        for name, allowed in (
            ("precision", Precision),
            ("weights", Precision),
            ("backend", Backend),
            ("merge_lowering", MergeLowering),
        ):
            value = getattr(self, name)
            if value is not None and value not in get_args(allowed):
                option = name.replace("_", "-")
                raise UsageError(f"{option} {value!r} is not known: choose one of {', '.join(get_args(allowed))}")


def parse_block_budget(value: int | str | None) -> int | None:
    """Bytes of a budget given as a number, or as a text such as "200MB"; raises `UsageError` for no size."""
    if not isinstance(value, str):
        return value
    try:
        return parse_budget(value)
    except SizeError as error:
        raise UsageError(f"--block-budget: {error}") from error


def parse_block_budgets(values: Sequence[str]) -> tuple[int | None, tuple[tuple[str, int | None], ...]]:
    """The budget of all components, and those of some, from texts such as "200MB" and "vae_spatial=600MB".

    Raises:
        UsageError: one of them is no size, or two are for the same.
    """
    pairs = [value.rpartition("=")[::2] for value in values]
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"--block-budget is given twice for {twice[0] or 'all components'}: give it once")
    budgets = {name: parse_block_budget(text) for name, text in pairs}
    return budgets.pop("", None), tuple(budgets.items())


def parse_capacities(values: Sequence[str]) -> Capacities:
    """Capacities from texts such as "48" and "my_model.py:18=48".

    Raises `UsageError` for a text that is neither, and for two that are for the same.
    """
    by_line: dict[str, int] = {}
    for value in values:
        line, _, number = value.rpartition("=")
        if not number.isdecimal() or (line and not line.rpartition(":")[2].isdecimal()):
            raise UsageError(f"--capacity {value!r} is none: {_EXAMPLE}")
        if line in by_line:
            raise UsageError(f"--capacity is given twice for {line or 'all lines'}: give it once")
        by_line[line] = int(number)
    everywhere = by_line.pop("", None)
    return Capacities(everywhere, tuple(by_line.items()))


def capacities_of(given: int | Mapping[str, int] | None) -> Capacities:
    """Capacities from a number, or numbers by line."""
    return Capacities(None, tuple(given.items())) if isinstance(given, Mapping) else Capacities(given)
