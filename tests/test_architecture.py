"""Who may import whom, and how."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "runtime": {"runtime"},
    "models": {"models"},
    "calib": {"calib", "models", "runtime"},
    "exporters": {"exporters", "models", "runtime", "calib"},
}
ROOMS = {
    "exporters": (
        *("errors", "options", "graph", "weights", "record", "source", "capture", "merging", "reference", "lowering"),
        *("targets", "partition", "convert", "verify", "report", "bundle", "compile", "api", "cli"),
    ),
    "models": ("checkpoints", "spec", "layers", "merging", "ondevice_sora", "tinychart", "synthesize", "training"),
    "runtime": (
        "errors",
        "units",
        "readable",
        "heap",
        "coremltools_alone",
        "manifest",
        "engines",
        "loading",
        "measure",
        "run",
        "apps",
        "cli",
    ),
}
"""The rooms of a package, files and folders, in the order in which they build on one another."""
MOST_LINES = 400


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_it_may(package: str) -> None:
    wrong = []
    for file in files(package):
        for line, name in imports(file):
            parts = name.split(".")
            if parts[0] == "tm_export" and (len(parts) < 2 or parts[1] not in MAY_IMPORT[package]):
                wrong.append(f"{file.relative_to(ROOT)}:{line}: {name}")
    assert wrong == []


def room_of(package: str, name: str) -> str | None:
    """The room of a module of a package, by its full name; None for the package itself and for what is of another."""
    parts = name.split(".")
    return parts[2] if parts[:2] == ["tm_export", package] and len(parts) > 2 else None


def modules_imported(file: Path) -> Iterator[tuple[int, str]]:
    """As `imports`, but `from a.b import c` is `a.b.c`: that may be a module."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("package", ROOMS)
def test_a_room_imports_only_those_before_it(package: str) -> None:
    order = {room: i for i, room in enumerate(ROOMS[package])}
    wrong = []
    for file in files(package):
        own = file.relative_to(ROOT / package).parts[0].removesuffix(".py")
        for line, name in modules_imported(file):
            room = room_of(package, name)
            if room is not None and order[room] > order[own]:
                wrong.append(f"{file.relative_to(ROOT)}:{line}: {name}")
    assert wrong == []


@pytest.mark.parametrize("package", ROOMS)
def test_the_rooms_are_those_that_are_listed(package: str) -> None:
    found = {path.name.removesuffix(".py") for path in (ROOT / package).iterdir() if not path.name.startswith("_")}
    assert found == set(ROOMS[package])


def test_no_file_is_long() -> None:
    lines = {file: len(file.read_text().splitlines()) for package in MAY_IMPORT for file in files(package)}
    assert {str(file): count for file, count in lines.items() if count > MOST_LINES} == {}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_are_absolute_and_by_the_public_name(package: str) -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in files(package)
        for line, name in imports(file)
        if name.startswith(".") or name.split(".")[0] in {*MAY_IMPORT, "src", "tests", "examples", "benchmarks"}
    ]
    assert wrong == []


def test_nothing_is_unpickled() -> None:
    """Weights are read as safetensors, or by torch.load with weights_only=True."""
    wrong = []
    for package in MAY_IMPORT:
        for file in files(package):
            for node in ast.walk(ast.parse(file.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                called, keywords = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
                if called == "torch.load" and keywords.get("weights_only") != "True":
                    wrong.append(f"{file}:{node.lineno}")
                if called.split(".")[0] in {"pickle", "dill", "joblib"} or keywords.get("allow_pickle") == "True":
                    wrong.append(f"{file}:{node.lineno}")
    assert wrong == []


def test_every_package_is_linked_under_the_public_name() -> None:
    for package in MAY_IMPORT:
        link = ROOT / "src" / "tm_export" / package
        assert link.is_symlink() and link.resolve() == ROOT / package
