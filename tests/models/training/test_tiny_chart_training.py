"""How `tinychart-tiny` is trained: what a batch holds, that losses fall, and that the weights come out."""

import json
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import zip_longest

import pytest
import torch
from tokenizers import Tokenizer
from torch.nn import functional as F

from tm_export.models.tinychart.network.connector import Connector
from tm_export.models.tinychart.network.language_model import LanguageModel
from tm_export.models.tinychart.network.vision_tower import VisionTower
from tm_export.models.tinychart.tiny import WEIGHTS
from tm_export.models.tinychart.tiny.sizes import LANGUAGE_MODEL, VISION_TOWER
from tm_export.models.tinychart.tokenizer import TOKENIZER
from tm_export.models.training.results import write_networks
from tm_export.models.training.stage import Stage, run_stage
from tm_export.models.training.tinychart import answering_stage as answering_module
from tm_export.models.training.tinychart import reading_stage as reading_module
from tm_export.models.training.tinychart import relating_stage as relating_module
from tm_export.models.training.tinychart.answering_stage import (
    ChartModel,
    answering_losses,
    batch_of,
    ids_of_words,
    random_batch,
    values_of_names,
)
from tm_export.models.training.tinychart.charts import chart_rng, draw, random_chart
from tm_export.models.training.tinychart.dataset import (
    BETWEEN,
    BLANK_DIGIT,
    CLASSES,
    IGNORED,
    LARGEST,
    LEGEND,
    NO_RANK,
    NO_ROW,
    SMALLEST,
    STOP,
    WORDS,
    dialogue,
    draw_small,
    pixels_of,
)
from tm_export.models.training.tinychart.greedy import write_greedily
from tm_export.models.training.tinychart.held_out import held_out_questions
from tm_export.models.training.tinychart.merge_rates import LOWER_RATES, features_at, random_rate, tokens_at
from tm_export.models.training.tinychart.publish import trained_networks
from tm_export.models.training.tinychart.questions import is_held_out, questions_of, table_question
from tm_export.models.training.tinychart.reading_stage import Reader, reading_losses
from tm_export.models.training.tinychart.relating_stage import Relater, relating_losses


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(WEIGHTS / TOKENIZER))


@pytest.mark.parametrize("index", range(12))
def test_labels_say_what_stands_where_and_what_belongs_to_it(index):
    drawn, drawing = draw_small(0, index), draw(random_chart(chart_rng(0, index)))
    chart = drawn.chart
    assert drawn.picture.shape == (96, 96, 3)
    assert len(drawn.labels) == len(drawing.labels) == len(chart.names) * (1 + len(chart.values)) + len(chart.series)
    for row, label in zip(drawn.labels.tolist(), drawing.labels, strict=True):
        assert all(0 <= number < count for number, count in zip(row[1:], CLASSES, strict=True))
        patch, tens, ones, word, whose, place, series, *values = row[:-2]
        assert (patch % 12, patch // 12) == (int(label.x // 32), int(label.y // 32))
        assert (WORDS[word] if word < len(WORDS) else number_of(tens, ones)) == label.text
        if label.text in chart.series:
            assert (whose, place, series) == (len(WORDS), LEGEND, chart.series.index(label.text))
            assert row[-2:] == [NO_RANK, NO_RANK]
            continue
        assert WORDS[whose] == chart.names[place]
        own = [str(each[place]) for each in chart.values]
        assert [number_of(*values[:2]), number_of(*values[2:])][: len(own)] == own
        for values_of_series, rank in zip_longest(chart.values, row[-2:], fillvalue=()):
            order = sorted(values_of_series)
            if not order:
                assert rank == NO_RANK
                continue
            value = values_of_series[place]
            assert (rank == LARGEST) == (value == order[-1])
            assert (rank == BETWEEN) == (order[0] < value < order[-1])
            assert rank in (LARGEST, SMALLEST, BETWEEN)
        if label.text.isdigit():
            assert own[series] == label.text
        else:
            assert (WORDS[whose], series) == (label.text, NO_ROW)


def number_of(tens: int, ones: int) -> str:
    return f"{tens if tens < BLANK_DIGIT else ''}{ones if ones < BLANK_DIGIT else ''}"


def test_targets_are_the_answers_tokens_and_nothing_else(tokenizer):
    drawn = draw_small(0, 1)
    question = questions_of(drawn.chart, chart_rng(0, 1))[0]
    dialogues = [
        dialogue(tokenizer, question, program=True),
        dialogue(tokenizer, table_question(drawn.chart), program=True),
    ]
    batch = batch_of([drawn], 18, torch.zeros(2, dtype=torch.int64), dialogues)
    for row, wanted in enumerate((question.program, table_question(drawn.chart).answer)):
        targets = batch.targets_DN[row]
        answer = targets[targets != IGNORED].tolist()
        assert answer[-1] == STOP and tokenizer.decode(answer[:-1]) == wanted
        first = int((targets != IGNORED).nonzero()[0])
        assert tokenizer.decode(batch.ids_DN[row, first - 1 : first + 1].tolist()).endswith(":")
        # Each target is the next id of the text.
        assert batch.ids_DN[row, first + 1 : first + len(answer)].tolist() == answer[:-1]


def test_no_held_out_phrasing_is_trained(tokenizer):
    charts = [draw_small(0, number) for number in range(4)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        batch = random_batch(charts, tokenizer, generator)
        assert len(batch.ids_DN) == len(batch.owner_D) == 4 * len(batch.charts)
        texts = {tokenizer.decode(ids.tolist()) for ids in batch.ids_DN}
        held_out = {
            q.text for c in charts for i in range(20) for q in questions_of(c.chart, chart_rng(2, i)) if is_held_out(q)
        }
        assert not any(text in each for each in texts for text in held_out)


def test_held_out_questions_are_held_out_and_of_all_kinds_in_turn():
    questions = held_out_questions(28)
    assert all(is_held_out(each.question) for each in questions)
    kinds = [each.question.kind for each in questions]
    assert len(set(kinds)) == 14 and kinds[:14] == kinds[14:]
    assert held_out_questions(5) == questions[:5]


def reading_stage(charts, tokenizer):
    model = Reader()
    return Stage("reading", model, partial(reading_losses, model, charts), 25, learning_rate=1e-3, seed=1)


def relating_stage(charts, tokenizer):
    model = Relater(Reader().tower)
    return Stage("relating", model, partial(relating_losses, model, charts), 25, learning_rate=1e-3, seed=1)


def answering_stage(charts, tokenizer):
    model = ChartModel(Relater(Reader().tower), tokenizer)
    return Stage("answering", model, partial(answering_losses, model, charts, tokenizer), 25, learning_rate=1e-3)


@pytest.mark.parametrize("make", [reading_stage, relating_stage, answering_stage])
def test_the_loss_of_a_stage_falls(make, tokenizer, tmp_path, monkeypatch):
    for module in (reading_module, relating_module, answering_module):
        monkeypatch.setattr(module, "PICTURES", 2 if module is answering_module else 4)
    charts = [draw_small(0, number) for number in range(2)]
    torch.manual_seed(0)
    stage = make(charts, tokenizer)
    before = float(stage.losses(torch.Generator().manual_seed(5))["loss"].detach())
    assert run_stage(stage, tmp_path)
    after = float(stage.losses(torch.Generator().manual_seed(5))["loss"].detach())
    assert after < 0.9 * before
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["step"] == 25


@torch.no_grad()
def test_training_sees_what_the_exported_networks_compute(tokenizer, tmp_path):
    """The published weights, through the loop that writes greedily, give the training model's likeliest tokens."""
    torch.manual_seed(0)
    model = ChartModel(Relater(Reader().tower), tokenizer).eval()
    torch.save({"mean": model.state_dict()}, tmp_path / "answering.pt")
    (tmp_path / "log.jsonl").write_text("{}\n")
    write_networks(trained_networks(tmp_path), tmp_path, tmp_path / "out")
    assert {path.stem for path in (tmp_path / "out").glob("*.safetensors")} == {"vision_tower", "connector", "llm"}

    drawn = draw_small(0, 2)
    asked = dialogue(tokenizer, questions_of(drawn.chart, chart_rng(0, 2))[0], program=True)
    batch = batch_of([drawn], 18, torch.zeros(1, dtype=torch.int64), [asked])
    logits_TV, _ = model(batch)
    visual = model.connector(model.tower(pixels_of([drawn])))
    (written,) = write_greedily(model.llm, visual, [(asked.before, asked.question)], stop=-1, most=1)
    assert written == [int(logits_TV[0].argmax())]


@pytest.mark.parametrize("rate", [18, 0])
@torch.no_grad()
def test_the_logits_over_a_shared_beginning_are_those_of_whole_sequences(tokenizer, rate):
    torch.manual_seed(0)
    model = ChartModel(Relater(Reader().tower), tokenizer).eval()
    charts = [draw_small(0, number) for number in range(3)]
    asked = [question for drawn in charts for question in questions_of(drawn.chart, chart_rng(0, 1))[:2]]
    dialogues = [dialogue(tokenizer, question, program=True) for question in asked]
    batch = batch_of(charts, rate, torch.tensor([0, 0, 1, 1, 2, 2]), dialogues)
    tower = VisionTower(replace(VISION_TOWER, tome_r=rate)).eval()
    tower.load_state_dict(model.tower.state_dict())
    visual_BPC = model.connector(tower(pixels_of(charts)))
    x_DNC = model.llm.model.embed_tokens(batch.ids_DN)
    x_DNC[:, batch.before : batch.before + visual_BPC.shape[1]] = visual_BPC[batch.owner_D]
    whole_TV = model.llm.logits(x_DNC)[batch.targets_DN != IGNORED]
    torch.testing.assert_close(model(batch)[0], whole_TV, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rate", [0, 6, 18])
def test_a_tower_of_another_rate_has_the_same_weights_and_trains_them(rate):
    torch.manual_seed(0)
    tower = Reader().tower
    other = VisionTower(replace(VISION_TOWER, tome_r=rate))
    other.load_state_dict(tower.state_dict())
    pixels = pixels_of([draw_small(0, 0)])
    features, matches = features_at(tower, rate, pixels)
    torch.testing.assert_close(features, other(pixels))
    assert features.shape[1] == tokens_at(rate) and len(matches) == VISION_TOWER.num_layers
    features.sum().backward()
    other(pixels).sum().backward()
    weights = tower.vision_model.encoder.layers[0].mlp.fc1.weight
    torch.testing.assert_close(weights.grad, other.vision_model.encoder.layers[0].mlp.fc1.weight.grad)


def test_most_batches_have_the_exported_rate():
    generator = torch.Generator().manual_seed(0)
    rates = Counter(random_rate(generator) for _ in range(400))
    assert set(rates) == {VISION_TOWER.tome_r, *LOWER_RATES}
    assert 0.65 < rates[VISION_TOWER.tome_r] / 400 < 0.85


def test_a_name_in_a_question_has_the_value_that_the_chart_gives_it(tokenizer):
    """Against the answers of look-ups, which are made of the chart and not of ids."""
    words = ids_of_words(tokenizer)
    for index in range(40):
        drawn = draw_small(0, index)
        (lookup,) = [q for q in questions_of(drawn.chart, chart_rng(3, index)) if q.kind == "lookup"]
        dialogues = [dialogue(tokenizer, lookup, program=program) for program in (True, False)]
        batch = batch_of([drawn], 18, torch.zeros(2, dtype=torch.int64), dialogues)
        found = values_of_names(batch, words)
        after = batch.ids_DN[:, batch.seen :]
        assert [row for row, _, _ in found] == [0, 1]
        assert all(words[int(after[row, place])] in lookup.text for row, place, _ in found)
        assert [str(value) for _, _, value in found] == [lookup.answer] * 2


def test_the_sizes_fit_each_other():
    with torch.device("meta"):
        tower, connector, llm = VisionTower(VISION_TOWER), Connector(LANGUAGE_MODEL), LanguageModel(LANGUAGE_MODEL)
    assert VISION_TOWER.tokens_in == 4 * VISION_TOWER.tokens_out == 4 * LANGUAGE_MODEL.visual_tokens
    features = F.linear(torch.empty(1, 36, VISION_TOWER.hidden_size, device="meta"), connector[0].weight)
    assert features.shape[2] == LANGUAGE_MODEL.hidden_size
    total = sum(p.numel() for module in (tower, connector, llm) for p in module.parameters())
    assert 2 * total < 8_000_000
