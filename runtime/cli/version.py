"""`--version`, on all commands."""

from __future__ import annotations

from typing import Annotated

import typer


def _show(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"tm-export {version('tm-export')}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", help="Show the version and exit.", callback=_show, is_eager=True)]
