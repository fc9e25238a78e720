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
