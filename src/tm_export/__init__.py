"""tm-export: compile PyTorch models that merge tokens to Core ML, ONNX and ExecuTorch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tm_export.exporters.api import Bundle, export

    __version__: str

__all__ = ["Bundle", "__version__", "export"]


def __getattr__(name: str) -> object:
    """Import the compiler, and PyTorch with it, when it is first asked for."""
    if name == "__version__":
        from importlib.metadata import version

        return version("tm-export")
    if name in __all__:
        from tm_export.exporters import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
