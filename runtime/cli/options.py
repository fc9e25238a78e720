"""Options that several commands have, and what becomes of a parsed command line of `tm-run`.

Only what parsing needs is imported, so that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tm_export.runtime.cli.console import Complaints
from tm_export.runtime.units import SizeError, parse_budget

if TYPE_CHECKING:
    from tm_export.runtime.loading.machinery import Machinery

_HOW, _PRINT = "How", "What to check and print"

BundleFolder = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="A folder that tm-export wrote.", show_default=False)
]
MemoryBudget = Annotated[
    str, typer.Option(help="What the process may hold, such as 1.2GB; or none.", rich_help_panel=_HOW)
]
PrefetchDepth = Annotated[
    int, typer.Option(min=0, help="How many calls ahead blocks are loaded.", rich_help_panel=_HOW)
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads of one operator; default: the engine's.", rich_help_panel=_HOW)
]
EngineName = Annotated[
    str | None, typer.Option(help="An engine of the bundle's target; default: the first.", rich_help_panel=_HOW)
]
Seed = Annotated[int, typer.Option(min=0, help="Of what chance decides.", rich_help_panel=_HOW)]
VerifyFiles = Annotated[
    bool, typer.Option(help="Prove every file by its SHA-256 before anything is opened.", rich_help_panel=_PRINT)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.", rich_help_panel=_PRINT)]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=_PRINT)]

HELP_OPTIONS: Final = {"help_option_names": ["-h", "--help"]}


@dataclass(frozen=True)
class Running:
    """How a bundle is run, and how it is told; the names are those of the options."""

    bundle: Path
    memory_budget: int | None
    prefetch_depth: int
    threads: int | None
    engine: str | None
    verify_files: bool
    as_json: bool
    debug: bool


@dataclass(frozen=True)
class Request:
    """A parsed command line: how, and what to do with the bundle, which gives the exit code."""

    running: Running
    answer: Callable[[Machinery, Complaints], int]


def budget_of(text: str) -> int | None:
    """Bytes of `--memory-budget`; raises `BadParameter` for no size."""
    try:
        return parse_budget(text)
    except SizeError as error:
        raise typer.BadParameter(f"--memory-budget: {error}") from None


def given_options(context: typer.Context) -> frozenset[str]:
    """The names of the options that were given on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return frozenset(name for name, source in sources.items() if source is not None and source.name != "DEFAULT")


def refuse(options: frozenset[str], reason: str) -> None:
    """Raise `BadParameter` naming the first of these options, if there is one."""
    if options:
        raise typer.BadParameter(f"--{min(options).replace('_', '-')}{reason}")
