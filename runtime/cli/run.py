"""`tm-run`: the command line that runs a bundle: its components, or the app that it is made for.

Only what parsing needs is imported above the functions, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import typer
from typer.core import TyperGroup

from tm_export.runtime.cli import charts, components, videos
from tm_export.runtime.cli.console import Complaints, refuse_more_than_the_machine_has, without_warnings
from tm_export.runtime.cli.options import HELP_OPTIONS, Request
from tm_export.runtime.cli.version import Version
from tm_export.runtime.errors import INTERRUPTED, OK, USAGE, UsageError, UserError
from tm_export.runtime.heap import restart_with_huge_pages

HELP: Final = """Run a bundle: its components, or what it is made for.

tm-run BUNDLE runs components on their golden inputs, or yours, and compares: see tm-run components --help.

Blocks are opened, prefetched and closed so that the whole process stays within --memory-budget.

[bold]Examples[/bold]

tm-run out/ondevice-sora-tiny-onnx

tm-run out/ondevice-sora-onnx --component denoiser --variant merged --memory-budget 1.2GB --repeat 30

tm-run video out/ondevice-sora-tiny-onnx --prompt "a red circle moves left" -o out.mp4

tm-run chart out/tinychart-tiny-onnx --image chart.png --question "What is the sum of the two largest bars?"

[bold]Exit codes[/bold]

0 good · 2 usage · 3 an engine refused · 4 outputs differ from the golden ones · 5 the memory budget is too small ·
130 interrupted · 1 a defect
"""

DEFAULT_COMMAND: Final = "components"
_OF_THE_GROUP: Final = frozenset({"-h", "--help", "--version", "--install-completion", "--show-completion"})
_OF_A_COMMAND: Final = {"--prompt": "video", "--image": "chart"}


class _ComponentsUnlessNamed(TyperGroup):
    """What begins with no command's name is for the components."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name of the default command in front where there is none."""
        if args and args[0] not in self.commands and args[0] not in _OF_THE_GROUP:
            _refuse_what_was_meant_for_another(args, tuple(self.commands))
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)


def _refuse_what_was_meant_for_another(args: list[str], commands: tuple[str, ...]) -> None:
    """Raise `BadParameter` for an option of another command, and for a name that is nearly one."""
    for option, command in _OF_A_COMMAND.items():
        if option in args:
            raise typer.BadParameter(f"{option} is an option of tm-run {command}: tm-run {command} BUNDLE {option} …")
    near = get_close_matches(args[0], commands, n=1)
    if near and not Path(args[0]).exists():
        raise typer.BadParameter(f"no command and no bundle is called {args[0]!r}: did you mean tm-run {near[0]}?")


app = typer.Typer(
    cls=_ComponentsUnlessNamed,
    help=HELP,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings=HELP_OPTIONS,
)
app.command(DEFAULT_COMMAND, help=components.HELP, context_settings=HELP_OPTIONS)(components.parse)
app.command("video", help=videos.HELP, context_settings=HELP_OPTIONS)(videos.parse)
app.command("chart", help=charts.HELP, context_settings=HELP_OPTIONS)(charts.parse)


@app.callback(help=HELP)
def _all(version: Version = False) -> None:
    pass


def main(argv: list[str] | None = None) -> int:
    """Run `tm-run` with these arguments (the process's own by default); returns its exit code."""
    if argv is None:
        restart_with_huge_pages()
    try:
        request = app(argv, prog_name="tm-run", standalone_mode=False)
    except typer.TyperException as error:
        if said := error.format_message():  # without arguments the help has been shown, and nothing is to be said
            Complaints("tm-run").say(f"{said} (see tm-run --help)")
        return USAGE
    if not isinstance(request, Request):  # --help has been answered
        return OK
    complaints = Complaints("tm-run", request.running.as_json, request.running.debug)
    try:
        with without_warnings(shown=request.running.debug):
            return _answer(request, complaints)
    except KeyboardInterrupt as error:
        return complaints.fail(str(error) or "interrupted; every block is closed", INTERRUPTED)
    except UserError as error:
        return complaints.fail(str(error), error.exit_code)
    except Exception as error:
        return complaints.defect(error, "tm-run")


def _answer(request: Request, complaints: Complaints) -> int:
    """Do what is asked, and print what became of it; returns the exit code."""
    from tm_export.runtime.engines import EngineError, choose_engine
    from tm_export.runtime.loading.machinery import Machinery
    from tm_export.runtime.manifest import read_manifest, verify_files

    running = request.running
    refuse_more_than_the_machine_has(running.memory_budget)
    manifest = read_manifest(running.bundle)
    if running.verify_files:
        verify_files(running.bundle, manifest)
    try:
        engine = choose_engine(manifest.target, running.engine, running.threads)
    except EngineError as error:
        raise UsageError(str(error)) from error
    machinery = Machinery(running.bundle, manifest, engine, running.memory_budget, running.prefetch_depth)
    return request.answer(machinery, complaints)


if __name__ == "__main__":
    sys.exit(main())
