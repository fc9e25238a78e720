"""What a target is, and how targets are found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

import torch
from torch import fx
from torch.export import ExportedProgram

from tm_export.exporters.errors import ConversionRefused, UsageError
from tm_export.exporters.graph.recipe import Recipe
from tm_export.exporters.graph.user_line import source_line
from tm_export.exporters.lowering.cost import CostModel
from tm_export.exporters.options import ExportOptions, Precision


@dataclass(frozen=True)
class Signature:
    """Names of a program's inputs and outputs, in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Placement:
    """Where an artifact's operators run.

    `regions` is the number of pieces that an accelerator or delegate takes (0 where the target has no such
    notion), `outside` counts the operators that stay on the plain CPU, by name; `operators` counts all.
    """

    regions: int
    operators: Mapping[str, int]
    outside: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Legalized:
    """A program as a target wants it, and how its tensors follow from the weights that it had before."""

    program: ExportedProgram
    recipe: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True)
class Function:
    """One variant of a block, ready to be emitted."""

    program: ExportedProgram
    signature: Signature


class Target(Protocol):
    """Emits programs for one kind of runtime.

    `legalize` rewrites a program, its merges already lowered, into what the runtime runs best; `emit` writes a
    block, the same bytes for the same programs, its variants over one copy of their weights; `placement` reads an
    artifact back.
    """

    name: str
    suffix: str
    least_rank: int
    """The fewest dimensions of an input or output: 1 where a single number is an array that holds it."""
    warm: tuple[str, ...]
    """Modules that do once, when imported, what each conversion would do anew; workers are forked with them."""
    libraries: tuple[str, ...]
    """The distributions whose versions an artifact's bytes depend on, besides this one and PyTorch's."""

    def precision(self, options: ExportOptions) -> Precision:
        """The precision that an export with these options computes in; raises `UsageError` if there is none."""
        ...

    def costs(self, options: ExportOptions) -> CostModel:
        """What each form of merging costs here."""
        ...

    def dtype(self, dtype: torch.dtype) -> str:
        """The name of the dtype that an input or output of this dtype has in an artifact."""
        ...

    def legalize(self, program: ExportedProgram, options: ExportOptions) -> Legalized:
        """The program in the operators that this target runs best."""
        ...

    def artifact(self, stem: str, variant: str) -> str:
        """The file that holds a variant of the block called `stem`: one for all variants, or one for each."""
        ...

    def function(self, variant: str, variants: int) -> str:
        """What a variant is called inside its artifact, of a block with that many."""
        ...

    def emit(self, functions: Mapping[str, Function], folder: Path, stem: str, options: ExportOptions) -> None:
        """Write the artifacts of a block, its variants by name, into the folder.

        Raises `ConversionRefused` naming an operator that the target lacks.
        """
        ...

    def seal(self, folder: Path) -> None:
        """Bring up to date what in a block's artifacts depends on their bytes, after its weights were exchanged."""
        ...

    def placement(self, path: Path, function: str) -> Placement:
        """Count what runs where in one function of the artifact at `path`."""
        ...


def target_names() -> list[str]:
    """The targets that are installed, sorted."""
    return sorted({entry.name for entry in entry_points(group="tm_export.targets")})


def find_target(name: str) -> Target:
    """The target called `name`; raises `UsageError` that lists those there are."""
    for entry in entry_points(group="tm_export.targets"):
        if entry.name == name:
            target: Target = entry.load()
            return target
    raise UsageError(f"target {name!r} is not known: choose one of {', '.join(target_names())}")


class UnlocatedRefusal(ConversionRefused):
    """A converter failed, and did not say at which operator."""

    def __init__(self, converter: str, message: str) -> None:
        super().__init__(converter, message)
        self.converter = converter

    def __str__(self) -> str:
        return str(self.args[1])


def refusal(target: str, program: ExportedProgram, error: BaseException) -> ConversionRefused:
    """The error for a converter's failure: the operator that it stumbled over and the user's line, where known."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    text = "\n".join(map(str, causes))
    for node in program.graph.nodes:
        if isinstance(node, fx.Node) and node.op == "call_function" and _names(node, text):
            return ConversionRefused(
                f"{target} has no operator for {node.target} at {source_line(node) or node.name}: "
                "write it in other operators"
            )
    return UnlocatedRefusal(
        f"{target}'s converter",
        f"{target}'s converter fails on this model and does not say at which operator: leave out parts of it until it "
        "exports, and write what is left out in other operators (--debug shows the converter's own words)",
    )


def _names(node: fx.Node, text: str) -> bool:
    """Whether an error's text names the node, or its operator under any namespace."""
    operator = str(node.target).split(".")[1].removeprefix("special_") if "." in str(node.target) else ""
    unsupported = rf"(?:aten|prims|node|op)(?:::|\.|\s)+(?:special_)?{re.escape(operator)}\b"
    named = re.search(rf"node {re.escape(node.name)}[, ]", text)
    return bool(named) or bool(operator and re.search(unsupported, text))
