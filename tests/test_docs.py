"""The documentation is held to the code: what it names exists, what it shows runs, what it quotes is said."""

import ast
import html
import importlib
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import onnxruntime
import pytest
import torch
import typer

import tm_export
from examples import blocks_under_a_budget
from tm_export.exporters.cli.request import app
from tm_export.exporters.source.named import source_of
from tm_export.models.spec.registry import find_model
from tm_export.models.synthesize import write as synthesize
from tm_export.runtime.cli import bench as cli_bench
from tm_export.runtime.cli import run as cli_run

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_CODE_SPAN = re.compile(r"`([^`\n]+)`")
_FLAG = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
SYNTHESIZE = "python -m tm_export.models.synthesize"
COMMANDS = {"tm-export": app, "tm-run": cli_run.app, "tm-bench": cli_bench._app}

UNIVERSAL = {"-h", "--help", "--version", "--install-completion", "--show-completion"}
"""What every command has."""

_REPOSITORY_PATH = re.compile(r"(?:runtime|models|exporters|calib|tests|examples|benchmarks|docs|src)/[\w./-]*")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what else the fence says (`run`, `file=NAME`), and its text."""

    language: str
    note: str
    code: str


def blocks(page: Path) -> list[Block]:
    found = []
    for match in _FENCE.finditer(page.read_text()):
        language, _, note = match["info"].partition(" ")
        found.append(Block(language, note, match["code"]))
    return found


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def write_files(page: Path, folder: Path) -> None:
    """Write the files that a page shows, and make of its pyproject.toml what installing it would."""
    for block in blocks(page):
        if not block.note.startswith("file="):
            continue
        (folder / block.note.removeprefix("file=")).write_text(block.code)
        if block.language == "toml":
            project = tomllib.loads(block.code)["project"]
            info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
            groups = [
                f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
                for group, entries in project["entry-points"].items()
            ]
            (info / "entry_points.txt").write_text("\n".join(groups))


@pytest.fixture
def installed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files of a page, importable, that is the working directory."""
    write_files(request.param, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def page_with_files(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("installed", [ROOT / "docs" / name], indirect=True, ids=[name])


def test_the_readme_opens_with_the_two_commands():
    first = blocks(ROOT / "README.md")[0]
    assert [line.split("#")[0].strip() for line in first.code.splitlines()] == ["make export", "make test"]


@each_page
def test_every_relative_link_leads_somewhere(page: Path):
    for link in _LINK.finditer(prose(page)):
        target, _, anchor = link["target"].partition("#")
        if "://" in target:
            continue
        reached = (page.parent / target.replace("\\", "")).resolve() if target else page
        assert reached.exists(), f"{page.name}: {link['target']}"
        assert not anchor or anchor in anchors(reached), f"{page.name}: {link['target']}"


@each_page
def test_every_repository_path_in_backticks_exists(page: Path):
    for span in _CODE_SPAN.findall(prose(page)):
        if _REPOSITORY_PATH.fullmatch(span):
            assert (ROOT / span).exists(), f"{page.name}: {span}"


@each_page
def test_every_python_block_compiles(page: Path):
    for block in blocks(page):
        if block.language == "python":
            compile(block.code, f"{page.name} (block)", "exec")


@each_page
def test_every_shell_line_is_one(page: Path):
    for block in blocks(page):
        if block.language == "bash":
            for line in block.code.splitlines():
                shlex.split(line, comments=True)


def options_of(command: str) -> set[str]:
    """All options of one of our commands, `--help` among them."""
    root = typer.main.get_command(COMMANDS[command])
    parameters = [each for part in (root, *getattr(root, "commands", {}).values()) for each in part.params]
    named = {option for each in parameters for option in (*each.opts, *each.secondary_opts) if option.startswith("-")}
    return named | UNIVERSAL


@pytest.fixture
def options_of_synthesize(capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit):
        synthesize.parse(["--help"])
    return set(_FLAG.findall(capsys.readouterr().out))


def command_lines(page: Path) -> Iterator[tuple[str, list[str]]]:
    """The lines of a page that call one of our commands: which, and with what arguments."""
    lines = [line for block in blocks(page) if block.language == "bash" for line in block.code.splitlines()]
    for line in lines:
        for command in (*COMMANDS, SYNTHESIZE):
            if line.startswith(f"{command} "):
                yield command, shlex.split(line.removeprefix(command), comments=True)


@each_page
def test_every_command_line_parses(page: Path):
    for command, arguments in command_lines(page):
        if command == SYNTHESIZE:
            synthesize.parse(arguments)
        else:  # the commands parse here, and do nothing yet
            request = COMMANDS[command](arguments, prog_name=command, standalone_mode=False)
            assert not isinstance(request, int), f"{page.name}: {command} {arguments}"


@each_page
def test_every_option_is_one_of_ours(page: Path, options_of_synthesize: set[str]):
    known = {command: options_of(command) for command in COMMANDS} | {SYNTHESIZE: options_of_synthesize}
    # What stands alone in prose may be any command's, but for those that are said to be another program's.
    known |= {"": set().union(*known.values(), {"--strict"})}
    for span in _CODE_SPAN.findall(prose(page)):
        command = next((name for name in known if name and span.startswith(f"{name} ")), "")
        named = {flag for flag in _FLAG.findall(span) if flag[:2] == "--"}
        assert named <= known[command], f"{page.name}: {span}"


def test_the_readme_names_every_option_of_tm_export():
    assert options_of("tm-export") - UNIVERSAL <= set(_FLAG.findall((ROOT / "README.md").read_text()))


@pytest.mark.parametrize("command", ["tm-run", "tm-bench"])
def test_the_table_of_a_command_names_all_its_options_and_no_other(command: str):
    section = (ROOT / "docs" / "running.md").read_text().split(f"## `{command}`\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`-.+?) \|.*$", section, re.MULTILINE)
    named = {flag for row in rows for flag in _FLAG.findall(row)}
    assert named <= options_of(command)
    assert options_of(command) - UNIVERSAL <= named | set(_FLAG.findall(" ".join(_CODE_SPAN.findall(section))))


def test_every_quoted_message_is_one_that_the_code_has():
    said = []
    for package in ("exporters", "models", "runtime"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    said.append(node.value)
                if isinstance(node, ast.JoinedStr):
                    said.append("\n".join(v.value for v in node.values if isinstance(v, ast.Constant)))
    text = "\n".join(said)
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(rows) > 50
    missing = [part for row in rows for part in row.split("…") if len(part) > 3 and part not in text]
    assert missing == []


@pytest.mark.parametrize("name", ["user_models.md", "add_a_rule.md"])
def test_the_examples_that_need_no_files_run(name: str):
    namespace: dict[str, object] = {"__name__": "example"}
    runnable = [block for block in blocks(ROOT / "docs" / name) if block.note == "run"]
    assert runnable
    for block in runnable:
        exec(compile(block.code, name, "exec"), namespace)


def test_what_user_models_advises_computes_what_it_says():
    namespace: dict[str, object] = {}
    for block in blocks(ROOT / "docs" / "user_models.md"):
        if block.note == "run":
            exec(block.code, namespace)
    torch.manual_seed(0)
    x, score = torch.randn(2, 9, 4), torch.rand(2, 9)

    rows, used = namespace["keep_above"](x, score, 0.5, 9)  # type: ignore[operator]
    for b in range(2):
        best_first = score[b].argsort(descending=True)
        assert torch.equal(rows[b][used[b]], x[b, best_first[score[b][best_first] > 0.5]])
        assert (rows[b][~used[b]] == 0).all()

    label = torch.randint(0, 3, (2, 9))
    means = namespace["cluster_means"](x, label, 4)  # type: ignore[operator]
    for b in range(2):
        for cluster in range(4):
            members = x[b, label[b] == cluster]
            expected = members.mean(0) if len(members) else torch.zeros(4)
            torch.testing.assert_close(means[b, cluster], expected)

    shares = [namespace["rate_of_layer"](layer, 5, 64, 21) for layer in range(5)]  # type: ignore[operator]
    assert sum(shares) == 43 and max(shares) - min(shares) <= 1


@page_with_files("user_models.md")
def test_the_contract_is_what_the_compiler_takes(installed: Path):
    source = source_of("my_model.py:build", seed=0)
    assert source.name == "my_model-build"
    (component,) = source.components
    assert component.input_names == ("tokens",)
    assert list(component.variants) == ["full"]


@page_with_files("add_a_model.md")
def test_the_worked_model_exports_by_name(installed: Path):
    assert find_model("sketch-tiny").components[0].name == "encoder"
    bundle = tm_export.export("sketch-tiny", target="onnx", out=installed / "out")
    session = onnxruntime.InferenceSession(bundle.path / "encoder" / "00" / "merged.onnx")
    assert [(node.name, node.shape) for node in session.get_outputs()] == [("features", [1, 48, 32])]


@page_with_files("add_a_target.md")
def test_the_worked_target_is_found_and_exports(installed: Path):
    assert "pt2" in {entry.name for entry in entry_points(group="tm_export.targets")}
    namespace: dict[str, object] = {"__name__": "example"}
    scripts = [block for block in blocks(ROOT / "docs" / "add_a_target.md") if block.note == "run"]
    assert len(scripts) == 2
    for script in scripts:
        exec(compile(script.code, "add_a_target.md", "exec"), namespace)
    assert (installed / "merge_full.pt2").is_file() and (installed / "out" / "merge-pt2" / "manifest.json").is_file()
    assert cli_run.main([str(installed / "out" / "merge-pt2")]) == 0


def test_the_example_runs_blocks_in_a_budget(tmp_path: Path):
    bundle, streamed = blocks_under_a_budget.demonstrate(tmp_path)

    (cut,) = bundle.report().blocks
    assert (cut.blocks, cut.programs, cut.conversions) == (6, 1, 1)
    assert [each.variant for each in streamed] == ["full", "merged"]
    for each in streamed:
        assert each.relative_error < 1e-5
        assert 1 < each.open_at_once <= 3  # 3 fit; how many are there at once depends on how long loads take
        assert cut.blocks < each.loads < cut.blocks * blocks_under_a_budget.STEPS  # streamed, but not all of them
    assert "desktop figure, not a phone's" in html.unescape((tmp_path / "bench" / "report.html").read_text())
