"""What two exports of the same thing have in common, byte for byte."""

from pathlib import Path

HOLD_TIMES = {"reports/export.json", "reports/index.html"}


def contents(bundle: Path) -> dict[str, bytes]:
    """Every file of a bundle, but for what holds times."""
    files = {path.relative_to(bundle).as_posix(): path for path in bundle.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name not in HOLD_TIMES}
