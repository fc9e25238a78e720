"""Reads and writes named arrays as safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tm_export.runtime.engines.base import Array
from tm_export.runtime.errors import UserError


class TensorFileError(UserError):
    """A file of tensors that cannot be read or written; the message names it."""


def read_tensors(path: Path) -> dict[str, Array]:
    """The arrays of a safetensors file, by name.

    Raises:
        TensorFileError: missing, no safetensors file, cut off, or of a type that NumPy lacks (bfloat16).
    """
    try:
        arrays: dict[str, Array] = load_file(path)
    except FileNotFoundError:
        raise TensorFileError(f"{path} does not exist: name a safetensors file") from None
    except (OSError, SafetensorError) as error:
        raise TensorFileError(f"{path} cannot be read as safetensors ({error}); write it again") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise TensorFileError(f"{path} holds a type that NumPy lacks ({error}); store float32 or float16") from None
    return arrays


def write_tensors(path: Path, arrays: Mapping[str, Array]) -> None:
    """Writes the arrays to a temporary name beside `path` and moves it there; makes the folder.

    Raises:
        TensorFileError: the folder or the file cannot be written.
    """
    unfinished = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, unfinished)
        unfinished.replace(path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):  # a disk or a folder that refuses once more
            unfinished.unlink(missing_ok=True)
        raise TensorFileError(f"{path} cannot be written ({error}); name another file with --out") from None
