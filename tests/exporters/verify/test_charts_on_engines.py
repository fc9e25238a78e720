"""What is written about a chart is the same on every engine, and PyTorch's own: the whole of `tinychart-tiny`."""

from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

import tm_export
from tests.support.verified import require_verified
from tm_export.exporters.bundle.bundle import Bundle
from tm_export.models.spec.registry import find_model
from tm_export.models.tinychart.network.connector import Connector
from tm_export.models.tinychart.network.image_preprocess import ImagePreprocess
from tm_export.models.tinychart.network.language_model import LanguageModel
from tm_export.models.tinychart.network.vision_tower import VisionTower
from tm_export.models.tinychart.tiny import sizes
from tm_export.models.training.tinychart.charts import draw
from tm_export.models.training.tinychart.greedy import write_greedily
from tm_export.models.training.tinychart.held_out import held_out_questions
from tm_export.runtime.apps.charts.chart_reader import ChartReader
from tm_export.runtime.apps.charts.picture import Picture, read_picture
from tm_export.runtime.apps.charts.prompt import prompt_of
from tm_export.runtime.apps.charts.write_text import Choice
from tm_export.runtime.engines import choose_engine
from tm_export.runtime.loading.loader import Loader
from tm_export.runtime.manifest import read_manifest

# One worker makes the bundles, for all tests here.
pytestmark = pytest.mark.xdist_group("charts on engines")

MODEL, TARGETS = "tinychart-tiny", ("onnx", "executorch", "coreml")
QUESTIONS = held_out_questions(6)
MOST = 60

# One is whole. The others are cut where layers repeat, which are then converted once.
BUDGETS: dict[str, dict[str, int | str | None]] = {
    "onnx": {},
    "executorch": {"llm": "2MB"},
    "coreml": {"llm": "2MB"},
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("charts")
    return {
        target: tm_export.export(MODEL, target=target, out=out, precision="fp32", block_budget=BUDGETS[target]).path
        for target in TARGETS
    }


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    for number, each in enumerate(QUESTIONS):
        draw(each.chart).image.save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("target", TARGETS)
def test_every_network_agrees_with_pytorch(bundles: dict[str, Path], target: str) -> None:
    require_verified(Bundle.read(bundles[target]).report(), target)


def written_by(bundle: Path, pictures: list[Path], *, program: bool) -> list[list[int]]:
    manifest = read_manifest(bundle)
    with Loader(bundle, manifest, choose_engine(manifest.target)) as loader:
        reader = ChartReader(bundle, manifest, loader)
        texts = []
        for path, each in zip(pictures, QUESTIONS, strict=True):
            seen = reader.look(read_picture(path, reader.contract.canvas))
            written = reader.write(seen, each.question.text, Choice(), program=program, max_new_tokens=MOST)
            texts.append(list(written.ids[:-1] if written.is_whole else written.ids))
    return texts


@cache
def networks() -> tuple[VisionTower, Connector, LanguageModel]:
    parts = {each.name: each for each in find_model(MODEL).components}
    built = (parts["vision_tower"].variants["merged"](), parts["connector"].variants["full"]())
    return (*cast(tuple[VisionTower, Connector], built), cast(LanguageModel, parts["llm"].variants["prefill"]()))


@torch.no_grad()
def written_by_pytorch(bundle: Path, pictures: list[Path], *, program: bool) -> list[list[int]]:
    """The networks one after another, whole sequences each time, no cache."""
    manifest = read_manifest(bundle)
    with Loader(bundle, manifest, choose_engine(manifest.target)) as loader:
        reader = ChartReader(bundle, manifest, loader)
    tower, connector, llm = networks()
    read = [read_picture(path, sizes.CANVAS) for path in pictures]
    visual = torch.cat([connector(tower(pixels_of(picture))) for picture in read])
    prompts = []
    for each in QUESTIONS:
        prompt = prompt_of(each.question.text, reader.tokenizer, reader.contract, program=program)
        first = prompt.visual_places.index(0)
        prompts.append((prompt.ids[:first], prompt.ids[first + sizes.LANGUAGE_MODEL.visual_tokens :]))
    return write_greedily(llm, visual, prompts, sizes.STOP, MOST)


def pixels_of(picture: Picture) -> torch.Tensor:
    numbers = torch.tensor([picture.height]), torch.tensor([picture.width])
    pixels: torch.Tensor = ImagePreprocess(sizes.VISION_TOWER.image_size)(
        torch.from_numpy(picture.canvas_1SS3), *numbers
    )
    return pixels


@pytest.mark.parametrize("program", [True, False], ids=["program", "direct"])
@pytest.mark.parametrize("target", TARGETS)
def test_greedy_text_is_pytorchs_token_for_token(
    bundles: dict[str, Path], pictures: list[Path], target: str, program: bool
) -> None:
    asked = written_by(bundles[target], pictures, program=program)
    assert asked == written_by_pytorch(bundles[target], pictures, program=program)
    assert len({tuple(text) for text in asked}) > 1  # it looks at picture and question


def test_chance_picks_what_a_seed_says(bundles: dict[str, Path], pictures: list[Path]) -> None:
    manifest = read_manifest(bundles["onnx"])
    texts = []
    with Loader(bundles["onnx"], manifest, choose_engine("onnx")) as loader:
        reader = ChartReader(bundles["onnx"], manifest, loader)
        seen = reader.look(read_picture(pictures[0], sizes.CANVAS))
        for seed in (1, 1, 2, 3):
            choice = Choice(temperature=5.0, top_p=1.0, seed=seed)
            texts.append(reader.write(seen, "What?", choice, program=False, max_new_tokens=12).ids)
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1
    assert np.unique(texts[0]).size > 1
