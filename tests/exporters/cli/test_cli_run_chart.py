"""`tm-run chart`: answers on the command line, through a small model that was exported and never trained."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import tm_export
from tm_export.exporters.source import named
from tm_export.models.spec.registry import ComponentSpec, ModelSpec, find_model
from tm_export.models.spec.seeding import seeded
from tm_export.models.tinychart.config import LanguageModelConfig, VisionTowerConfig
from tm_export.models.tinychart.presets import chart_qa, components
from tm_export.runtime.apps.charts.write_text import cache_bytes
from tm_export.runtime.cli.run import main
from tm_export.runtime.loading import process_budget
from tm_export.runtime.manifest import read_manifest

pytestmark = pytest.mark.xdist_group("tm-run chart")

TOWER = VisionTowerConfig(
    hidden_size=16, intermediate_size=32, num_layers=2, num_heads=2, patch_size=8, image_size=32, tome_r=4
)
LLM = LanguageModelConfig(
    vocab_size=512,
    hidden_size=20,
    intermediate_size=40,
    num_layers=2,
    num_heads=2,
    rotary_channels=4,
    token_ids=512,
    visual_size=16,
    visual_tokens=TOWER.tokens_out,
    max_tokens=100,
    chunk=16,
)
CANVAS = 40
PROMPT_TOKENS = 75
Run = Callable[..., tuple[int, str, str]]


def with_random_weights(component: ComponentSpec) -> ComponentSpec:
    variants = {name: partial(seeded, build, 0) for name, build in component.variants.items()}
    origin = "none" if component.weights == "none" else "seeded"
    return replace(component, variants=variants, weights=origin, published=None)


def small_model(name: str) -> ModelSpec:
    real = find_model("tinychart-tiny").chart_qa
    assert real is not None
    return ModelSpec(
        name=name,
        description="small",
        components=tuple(with_random_weights(each) for each in components(TOWER, LLM, CANVAS)),
        chart_qa=chart_qa(
            LLM, CANVAS, tokenizer=real.tokenizer, synthetic_tokenizer=None, prompt_tokens=PROMPT_TOKENS, stop_token=0
        ),
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(named, "find_model", small_model)
        return tm_export.export("small", target="onnx", out=tmp_path_factory.mktemp("small"), verify="converted").path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "chart.png")
    return tmp_path / "chart.png"


@pytest.fixture
def run(bundle: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object, bundle: Path = bundle) -> tuple[int, str, str]:
        code = main(["chart", str(bundle), *map(str, arguments)])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def refused(run: Run, *arguments: object, code: int = 2) -> str:
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert "Traceback" not in err
    return " ".join(err.split())


def test_a_question_is_answered_and_said_how(run, picture):
    code, out, err = run("--image", picture, "--question", "How much is Oat?", "--max-new-tokens", 5)
    assert (code, err) == (0, "")
    assert "\nanswer: " in out and "(written directly)" in out
    assert "tokens/s" in out and "peak RSS" in out
    assert "the text was cut off: allow more with --max-new-tokens" in out


def test_a_text_that_is_no_program_is_answered_directly_and_said_why(run, picture):
    code, out, _ = run("--image", picture, "--question", "What is the sum?", "--max-new-tokens", 5, "--json")
    found = json.loads(out)
    assert (code, found["exit_code"], found["source"]) == (0, 0, "direct")
    assert "holds no complete <step>" in found["reason"]
    assert [each["tokens"] for each in found["written"]] == [5, 5]
    assert found["answer"] == found["written"][1]["text"].strip()
    program, direct = (each["prompt_tokens"] for each in found["written"])
    assert program > direct


def test_the_same_seed_writes_the_same_and_another_does_not(run, picture):
    def text(seed: int) -> str:
        asked = ("--question", "How much?", "--answer", "direct", "--max-new-tokens", 8, "--temperature", 5)
        _, out, _ = run("--image", picture, *asked, "--top-p", 1, "--seed", seed, "--json")
        return json.loads(out)["written"][0]["text"]

    assert text(1) == text(1)
    assert len({text(seed) for seed in range(4)}) > 1


def test_many_questions_come_from_a_file_and_go_to_one(run, picture, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"")
    rows = [
        ("chart.png", "How much is Oat?", "3"),
        ("broken.png", "What?", "4"),
        ("chart.png", "", ""),
        ("chart.png", "Who?", ""),
    ]
    with (tmp_path / "questions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "question", "answer"), *rows])
    out_file = tmp_path / "answers.csv"
    asked = ("--image", tmp_path, "--questions", tmp_path / "questions.csv", "--max-new-tokens", 3, "-o", out_file)
    code, out, err = run(*asked)
    assert code == 2  # two of them have no answer
    assert "2 of 4 answered" in out
    assert "2 of 4 questions have no answer; the first:" in err and "broken.png is no picture" in err
    with out_file.open(newline="") as file:
        answers = list(csv.DictReader(file))
    assert [each["problem"] == "" for each in answers] == [True, False, False, True]
    assert "the question is empty" in answers[2]["problem"]
    assert [each["truth"] for each in answers] == ["3", "4", "", ""]
    assert answers[1]["right"] == "no" and answers[3]["source"] == "direct"


def test_one_question_about_a_folder(run, picture, tmp_path):
    picture.rename(tmp_path / "b.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "b.png").read_bytes())
    (tmp_path / "notes.txt").write_text("no picture")
    code, out, _ = run("--image", tmp_path, "--question", "How much?", "--max-new-tokens", 3, "--json")
    found = json.loads(out)
    assert (code, [each["image"] for each in found["rows"]]) == (0, ["a.png", "b.png"])
    assert found["rows"][0]["answer"] == found["rows"][1]["answer"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--question", "a"), "Missing option '--image'"),
        (("--temperature", "1"), "Missing option '--image'"),
        (("--image", "PICTURE"), "--image needs --question, or --questions for many"),
        (("--image", "FOLDER"), "--image needs --question, or --questions for many"),
        (("--image", "PICTURE", "--question", "  "), "the question is empty"),
        (("--image", "PICTURE", "--question", "a\x07"), "the question has U+0007 at position 1"),
        (("--image", "PICTURE", "--question", "sum " * 30), "the question is too long: it takes"),
        (("--image", "FOLDER/none.png", "--question", "a"), "none.png does not exist: name a picture"),
        (("--image", "FOLDER/empty.png", "--question", "a"), "empty.png is no picture that can be read"),
        (("--image", "PICTURE", "--questions", "FOLDER/q.csv"), "chart.png is no folder: --questions needs"),
        (("--image", "FOLDER", "--questions", "FOLDER/q.csv", "--question", "a"), "--question does not go with"),
        (("--image", "FOLDER", "--questions", "FOLDER/none.csv"), "none.csv cannot be read"),
        (("--image", "FOLDER", "--questions", "FOLDER/q.csv"), "q.csv has no column 'question'"),
        (("--image", "FOLDER", "--questions", "FOLDER/bare.csv"), "bare.csv has no rows"),
        (("--image", "FOLDER", "--questions", "FOLDER/chart.png"), "chart.png cannot be read"),
        (("--image", "FOLDER/void", "--question", "a"), "void has no pictures"),
        (("--image", "PICTURE", "--question", "a", "--out", "FOLDER/a.csv"), "and this is one: leave it out"),
        (("--image", "PICTURE", "--question", "a", "--component", "llm"), "No such option: --component"),
        (("--image", "PICTURE", "--prompt", "a"), "No such option: --prompt"),
        (("--image", "PICTURE", "--question", "a", "--temperature", "-1"), "--temperature"),
        (("--image", "PICTURE", "--question", "a", "--top-p", "0"), "--top-p"),
        (("--image", "PICTURE", "--question", "a", "--max-new-tokens", "0"), "--max-new-tokens"),
        (("--image", "PICTURE", "--question", "a", "--answer", "maybe"), "--answer"),
        (("--seed", "3"), "Missing option '--image'"),
    ],
)
def test_what_cannot_be_asked_is_refused(run, picture, tmp_path, options, said):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "void").mkdir()
    (tmp_path / "q.csv").write_text("image,text\nchart.png,a\n")
    (tmp_path / "bare.csv").write_text("image,question\n")
    given = [each.replace("PICTURE", str(picture)).replace("FOLDER", str(tmp_path)) for each in options]
    assert said in refused(run, *given)


def test_a_question_that_is_too_long_is_told_what_fits(run, picture):
    found = refused(run, "--image", picture, "--question", "1" * 30)  # each digit is a token
    fits = int(found.split(" tokens, and ")[1].split()[0])
    assert run("--image", picture, "--question", "1" * fits, "--max-new-tokens", 1)[0] == 0
    refused(run, "--image", picture, "--question", "1" * (fits + 1))


def test_a_bundle_that_answers_nothing_is_refused(run, picture, bundle, tmp_path):
    manifest = read_manifest(bundle)
    other = tmp_path / "other"
    other.mkdir()
    (other / "manifest.json").write_text(json.dumps(manifest.model_dump(mode="json") | {"host": None}))
    asked = partial(run, bundle=other)
    found = refused(asked, "--image", picture, "--question", "a", "--no-verify-files")
    assert "answers no questions about charts" in found


def test_a_budget_that_is_too_small_is_refused(run, picture):
    found = refused(run, "--image", picture, "--question", "a", "--memory-budget", "10MB", code=5)
    assert "10" in found


def test_full_caches_are_taken_off_the_budget(bundle, monkeypatch):
    held = SimpleNamespace(rss_bytes=10**8)
    monkeypatch.setattr(process_budget, "sample_memory", lambda: held)
    caches = cache_bytes(read_manifest(bundle))
    assert caches == 2 * LLM.num_layers * LLM.max_tokens * LLM.hidden_size * 4
    assert process_budget.budget_for_blocks(10**9, caches) == 9 * 10**8 - caches


def test_ctrl_c_ends_with_its_exit_code(run, picture, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tm_export.runtime.apps.charts.chart_reader.write_text", interrupted)
    assert "interrupted" in refused(run, "--image", picture, "--question", "a", code=130)
