"""Calls the user's `FILE.py:FUNC`, and tells the user's own mistakes from ours."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from tm_export.exporters.errors import UsageError


def call_user_function(file: Path, function: str) -> object:
    """Import the file and return what its function returns, called without arguments.

    Raises:
        UsageError: no such file or function, or an error in the user's code, with its line.
    """
    if file.suffix != ".py":
        raise UsageError(f"{str(file)!r} names no Python file: give FILE.py:FUNC, such as my_model.py:build")
    if not file.is_file():
        raise UsageError(f"{file} does not exist or is no file: give a Python file's path, as FILE.py:FUNC")
    with _folder_on_path(file):
        build = _find_function(_import_file(file), file, function)
        try:
            return build()
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"{file.name}:{function}, called without arguments, raised {_explain(error, file)}"
            ) from error


@contextmanager
def _folder_on_path(file: Path) -> Iterator[None]:
    """Let the file import its neighbours, as `python FILE.py` would."""
    before = list(sys.path)
    sys.path.insert(0, str(file.resolve().parent))
    try:
        yield
    finally:
        sys.path[:] = before


def _import_file(file: Path) -> ModuleType:
    # A name of its own for each path: a user's `types.py` must not stand for Python's.
    name = f"tm_export_user_{file.stem}_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up the module of a class there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UsageError(f"{file} cannot be imported: {_explain(error, file)}") from error
    return module


def _find_function(module: ModuleType, file: Path, function: str) -> Callable[[], object]:
    own = sorted(
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    )
    choice = f"{file} has {', '.join(own)}" if own else f"{file} defines no function"
    if not function:
        raise UsageError(f"{file} alone names no function: give {file}:FUNC ({choice})")
    if not hasattr(module, function):
        close = difflib.get_close_matches(function, own, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UsageError(f"there is no function {function!r}: {hint}{choice}")
    found = getattr(module, function)
    if not callable(found):
        raise UsageError(f"{function!r} is of type {type(found).__name__}, not a function: {choice}")
    build: Callable[[], object] = found
    return build


def _explain(error: BaseException, file: Path) -> str:
    """The error's type and first line, and the last line of the user's file on the way to it."""
    message = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {message[0]}" if message else type(error).__name__
    if isinstance(error, SyntaxError):
        return text  # Python's own message ends in file and line
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).resolve() == file.resolve()
    ]
    return f"{text}, at {file.name}:{frames[-1].lineno}: {frames[-1].line}" if frames else text
