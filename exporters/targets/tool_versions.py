"""The versions of what an artifact's bytes depend on."""

from __future__ import annotations

from importlib.metadata import version

from tm_export.exporters.targets.base import Target


def tool_versions(target: Target) -> dict[str, str]:
    """The versions of this tool, of PyTorch and of the target's libraries."""
    return {name: version(name) for name in ("tm-export", "torch", *target.libraries)}
