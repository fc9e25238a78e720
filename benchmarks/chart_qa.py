"""How often `tinychart-tiny` is right, what merging costs and saves, and whether every engine writes what PyTorch does.

    tm-export -m tinychart-tiny --target onnx --target executorch --precision fp32
    python benchmarks/chart_qa.py out/tinychart-tiny-onnx out/tinychart-tiny-executorch --json chart_qa.json

Questions are held out: about charts and in phrasings that training never saw. Reported:

- relaxed accuracy in PyTorch of direct answers, of programs, and of both combined, with Wilson's interval of 95 %;
- the same for other merge rates, with the tower's and the prefill's seconds and the tokens of a picture; most pictures
  of the training were merged at the rate that is exported, some at lower ones and not at all, none at a higher one;
- for each bundle: in how many dialogues its text is PyTorch's, token for token, its relaxed accuracy, and seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from wilson import wilson

from tm_export.models.spec.registry import find_model
from tm_export.models.tinychart.network.connector import Connector
from tm_export.models.tinychart.network.image_preprocess import ImagePreprocess
from tm_export.models.tinychart.network.language_model import LanguageModel
from tm_export.models.tinychart.network.vision_tower import VisionTower
from tm_export.models.tinychart.tiny import sizes
from tm_export.models.training.tinychart.charts import draw
from tm_export.models.training.tinychart.greedy import write_greedily
from tm_export.models.training.tinychart.held_out import HeldOut, held_out_questions
from tm_export.runtime.apps.charts.chart_reader import ChartReader
from tm_export.runtime.apps.charts.contract import ChartQa
from tm_export.runtime.apps.charts.picture import Picture
from tm_export.runtime.apps.charts.programs.combine import needs_program
from tm_export.runtime.apps.charts.programs.errors import ProgramFailed, ProgramRefused
from tm_export.runtime.apps.charts.programs.program_answer import program_answer
from tm_export.runtime.apps.charts.programs.relaxed_accuracy import relaxed_accuracy
from tm_export.runtime.apps.charts.prompt import TEXT, prompt_of
from tm_export.runtime.apps.charts.write_text import Choice
from tm_export.runtime.engines import choose_engine
from tm_export.runtime.loading.loader import Loader
from tm_export.runtime.manifest import read_manifest

MODEL = "tinychart-tiny"
MODES = ("direct", "program", "combined")
MERGE_RATES = (0, 6, 12, 18, 21)
BATCH = 50
TIMED = 20


@dataclass(frozen=True)
class Texts:
    """Ids that were written to a question: asked for a program, and asked directly."""

    program: tuple[int, ...]
    direct: tuple[int, ...]


@dataclass(frozen=True)
class Accuracy:
    """Relaxed accuracy of one way to answer."""

    mode: str
    questions: int
    right: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Networks:
    """What makes a picture and a question into logits, in PyTorch."""

    tower: VisionTower
    connector: Connector
    llm: LanguageModel


def networks(rate: int) -> Networks:
    """The trained networks, the tower with another merge rate."""
    parts = {each.name: each for each in find_model(MODEL).components}
    trained = cast(VisionTower, parts["vision_tower"].variants["merged"]())
    tower = VisionTower(replace(sizes.VISION_TOWER, tome_r=rate)).eval()
    tower.load_state_dict(trained.state_dict())
    connector = cast(Connector, parts["connector"].variants["full"]())
    llm = LanguageModel(sizes.LANGUAGE_MODEL_FOR_UNMERGED).eval()
    llm.load_state_dict(parts["llm"].variants["decode"]().state_dict())
    return Networks(tower, connector, llm)


def picture_of(held_out: HeldOut) -> Picture:
    """The chart as a file's picture would be."""
    shown = np.asarray(draw(held_out.chart).image)
    canvas = np.zeros((1, sizes.CANVAS, sizes.CANVAS, 3), np.uint8)
    canvas[0, : shown.shape[0], : shown.shape[1]] = shown
    return Picture(canvas, shown.shape[0], shown.shape[1], ())


@torch.no_grad()
def pixels_of(picture: Picture) -> Tensor:
    """What the tower takes."""
    numbers = torch.tensor([picture.height]), torch.tensor([picture.width])
    pixels: Tensor = ImagePreprocess(sizes.VISION_TOWER.image_size)(torch.from_numpy(picture.canvas_1SS3), *numbers)
    return pixels


@torch.no_grad()
def written_by_pytorch(
    parts: Networks, questions: Sequence[HeldOut], tokenizer: Tokenizer, contract: ChartQa
) -> list[Texts]:
    """What the networks write to all questions, some at a time."""
    texts: list[Texts] = []
    for start in range(0, len(questions), BATCH):
        some = questions[start : start + BATCH]
        # One by one, as on an engine: a batch's products are summed otherwise, which decides between equal scores.
        visual = torch.cat([parts.connector(parts.tower(pixels_of(picture_of(each)))) for each in some])
        found = []
        for program in (True, False):
            prompts = [split_prompt(each.question.text, tokenizer, contract, program=program) for each in some]
            most = contract.max_tokens - contract.prompt_tokens
            found.append(write_greedily(parts.llm, visual, prompts, contract.stop_token, most))
        texts += [Texts(tuple(program), tuple(direct)) for program, direct in zip(*found, strict=True)]
        print(f"PyTorch, {visual.shape[1]} visual tokens: {len(texts)} of {len(questions)}", flush=True)
    return texts


def with_visual_tokens(contract: ChartQa, visual_tokens: int) -> ChartQa:
    """The contract of a model whose pictures take so many tokens, and whose text has as much room."""
    more = visual_tokens - contract.visual_tokens
    longer = {"prompt_tokens": contract.prompt_tokens + more, "max_tokens": contract.max_tokens + more}
    return contract.model_copy(update={"visual_tokens": visual_tokens, **longer})


def split_prompt(
    question: str, tokenizer: Tokenizer, contract: ChartQa, *, program: bool
) -> tuple[Sequence[int], Sequence[int]]:
    """The prompt's ids before and after the picture."""
    prompt = prompt_of(question, tokenizer, contract, program=program)
    first = prompt.visual_places.index(0)
    last = len(prompt.ids) - prompt.visual_places[::-1].index(contract.visual_tokens - 1)
    assert prompt.visual_places[last:] == (TEXT,) * (len(prompt.ids) - last)
    return prompt.ids[:first], prompt.ids[last:]


def accuracies(questions: Sequence[HeldOut], texts: Sequence[Texts], tokenizer: Tokenizer) -> list[Accuracy]:
    """Of each way to answer."""
    found = []
    for mode in MODES:
        right = sum(
            relaxed_accuracy(answer_of(mode, each.question.text, text, tokenizer), each.question.answer)
            for each, text in zip(questions, texts, strict=True)
        )
        low, high = wilson(right, len(questions))
        found.append(Accuracy(mode, len(questions), right, right / len(questions), low, high))
    return found


def answer_of(mode: str, question: str, texts: Texts, tokenizer: Tokenizer) -> str:
    """The answer by a mode; a program that gives none is wrong in mode `program`, and left for the direct one else."""
    direct: str = tokenizer.decode(list(texts.direct)).strip()
    if mode == "direct" or (mode == "combined" and not needs_program(question)):
        return direct
    try:
        return program_answer(tokenizer.decode(list(texts.program)))
    except (ProgramFailed, ProgramRefused):
        return direct if mode == "combined" else ""


@torch.no_grad()
def seconds_of(parts: Networks, pixels: Tensor) -> tuple[float, float]:
    """Median seconds of the tower for one picture, and of the language model for a prompt of usual length after it."""
    tower, prefill = [], []
    for _ in range(TIMED):
        start = time.perf_counter()
        visual = parts.connector(parts.tower(pixels))
        seen = time.perf_counter()
        parts.llm.logits(torch.cat([visual, torch.zeros(1, 48, visual.shape[2])], dim=1))
        tower.append(seen - start)
        prefill.append(time.perf_counter() - seen)
    return statistics.median(tower), statistics.median(prefill)


def compare(
    bundle: Path, questions: Sequence[HeldOut], wanted: Sequence[Texts], tokenizer: Tokenizer, threads: int
) -> dict[str, object]:
    """Run questions through a bundle.

    Returns how many texts are PyTorch's, the numbers of the others' questions, accuracy, and medians of seconds.
    """
    manifest = read_manifest(bundle)
    # The Core ML reference has no threads to choose.
    engine = choose_engine(manifest.target, None, None if manifest.target == "coreml" else threads)
    texts: list[Texts] = []
    looks, firsts, rates = [], [], []
    with Loader(bundle, manifest, engine) as loader:
        reader = ChartReader(bundle, manifest, loader)
        for number, each in enumerate(questions, start=1):
            seen = reader.look(picture_of(each))
            asked = each.question.text
            program, direct = (reader.write(seen, asked, Choice(), program=program) for program in (True, False))
            looks.append(seen.seconds)
            firsts.append(program.first_seconds)
            rates.append(program.tokens_per_second)
            stop = reader.contract.stop_token
            ids = [each.ids[:-1] if each.ids[-1] == stop else each.ids for each in (program, direct)]
            texts.append(Texts(*ids))
            if number % BATCH == 0:
                print(f"{engine.name}: {number} of {len(questions)}", flush=True)
    others = [number for number, pair in enumerate(zip(texts, wanted, strict=True)) if pair[0] != pair[1]]
    return {
        "engine": engine.name,
        "questions": len(questions),
        "equal": len(questions) - len(others),
        "others": others,
        "accuracies": [asdict(each) for each in accuracies(questions, texts, tokenizer)],
        "picture_seconds": statistics.median(looks),
        "first_token_seconds": statistics.median(firsts),
        "tokens_per_second": statistics.median(rates),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="*", help="of tinychart-tiny, in fp32")
    parser.add_argument("--questions", type=int, default=504, help="for the accuracy in PyTorch")
    parser.add_argument("--compared", type=int, default=200, help="of them, through each bundle")
    parser.add_argument("--merge-rates", type=int, nargs="*", default=MERGE_RATES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    spec = find_model(MODEL).chart_qa
    assert spec is not None
    tokenizer = Tokenizer.from_str(spec.tokenizer(None))
    values = {name: getattr(spec, name) for name in ChartQa.model_fields if name not in ("kind", "version", "files")}
    contract = ChartQa(files={"tokenizer": "host/tokenizer.json"}, **values)
    questions = held_out_questions(arguments.questions)
    report: dict[str, object] = {"rates": [], "bundles": []}

    trained: list[Texts] = []
    rows: list[dict[str, object]] = []
    for rate in sorted(arguments.merge_rates, key=lambda rate: rate != sizes.VISION_TOWER.tome_r):
        parts = networks(rate)
        own = with_visual_tokens(contract, parts.tower.config.tokens_out)
        texts = written_by_pytorch(parts, questions, tokenizer, own)
        if rate == sizes.VISION_TOWER.tome_r:
            trained = texts
        tower, prefill = seconds_of(parts, pixels_of(picture_of(questions[0])))
        found = accuracies(questions, texts, tokenizer)
        print(f"r={rate}: {own.visual_tokens} tokens, tower {tower * 1e3:.1f} ms, prefill {prefill * 1e3:.1f} ms")
        for each in found:
            print(
                f"  {each.mode}: {each.right} of {each.questions}, {each.share:.1%} ({each.low:.1%} to {each.high:.1%})"
            )
        if rate == sizes.VISION_TOWER.tome_r:
            print_by_kind(questions, texts, tokenizer)
        rows.append(
            {
                "rate": rate,
                "visual_tokens": own.visual_tokens,
                "tower_seconds": tower,
                "prefill_seconds": prefill,
                "accuracies": [asdict(each) for each in found],
            }
        )
    compared: list[dict[str, object]] = []
    for bundle in arguments.bundles:
        count = min(arguments.compared, len(trained))
        compared.append(compare(bundle, questions[:count], trained[:count], tokenizer, arguments.threads))
        print(json.dumps(compared[-1], indent=2), flush=True)
    report = {"rates": rows, "bundles": compared}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2))


def print_by_kind(questions: Sequence[HeldOut], texts: Sequence[Texts], tokenizer: Tokenizer) -> None:
    """How many answers of each mode are right, by kind of question and of chart."""
    pairs = list(zip(questions, texts, strict=True))
    for title, kind_of in (("question", lambda each: each.question.kind), ("chart", lambda each: each.chart.kind)):
        for kind in dict.fromkeys(kind_of(each) for each in questions):
            own = [(each, text) for each, text in pairs if kind_of(each) == kind]
            found = accuracies([each for each, _ in own], [text for _, text in own], tokenizer)
            right = ", ".join(f"{each.mode} {each.right}" for each in found)
            print(f"  {title} {kind}: {right} of {len(own)}")


if __name__ == "__main__":
    main()
