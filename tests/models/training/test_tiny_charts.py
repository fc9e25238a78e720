import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer

from tm_export.models.tinychart.prompt import AFTER_QUESTION, BEFORE_PICTURE, SYSTEM
from tm_export.models.tinychart.tiny import WEIGHTS
from tm_export.models.training.tinychart.canvas import SIZE
from tm_export.models.training.tinychart.charts import KINDS, NAMES, SCALES, Chart, chart_rng, draw, random_chart
from tm_export.models.training.tinychart.draw_bars import BOTTOM, LEAST, PLOT_WIDTH, SERIES_GAP, column
from tm_export.models.training.tinychart.phrasings import PHRASINGS
from tm_export.models.training.tinychart.programs import answer_text
from tm_export.models.training.tinychart.questions import Question, is_held_out, questions_of, table_question
from tm_export.models.training.tinychart.train_tokenizer import TAGS, TEXT_END, VOCABULARY, train_tokenizer

SEEDS = st.integers(0, 10**6)
LEGEND_END = 50  # the row above which squares in the legend have the bars' colours too
WRITTEN = WEIGHTS / "tokenizer.json"


def charts(count: int, seed: int = 11) -> list[Chart]:
    return [random_chart(chart_rng(seed, index)) for index in range(count)]


def asked(seed: int) -> tuple[Chart, tuple[Question, ...]]:
    rng = random.Random(seed)
    chart = random_chart(rng)
    return chart, questions_of(chart, rng)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer()


# Charts


def test_the_seed_fixes_the_chart_its_drawing_and_its_questions():
    first, again = (random_chart(chart_rng(3, 5)) for _ in range(2))
    assert first == again and draw(first).image.tobytes() == draw(again).image.tobytes()
    assert draw(first).labels == draw(again).labels
    assert asked(8) == asked(8) and asked(8) != asked(9)
    assert len({random_chart(chart_rng(seed, index)) for seed in range(9) for index in range(9)}) == 81


def test_charts_are_of_every_kind_and_scale_and_their_values_within_it():
    drawn = charts(400)
    assert {(c.kind, c.scale) for c in drawn} == set(itertools.product(KINDS, SCALES))
    assert {name for c in drawn for name in c.names} == set(NAMES)
    for chart in drawn:
        assert len(set(chart.names)) == len(chart.names) and chart.largest <= chart.scale
        assert all(len(row) == len(chart.names) and min(row) >= 1 for row in chart.values)
        assert len(chart.values) == max(1, len(chart.series))


@given(SEEDS)
def test_the_labels_are_all_that_the_chart_says_and_stand_on_ink_within_the_picture(seed: int):
    chart = random_chart(random.Random(seed))
    drawing = draw(chart)
    assert drawing.image.size == (SIZE, SIZE) and drawing.image.mode == "RGB"
    said = [*chart.names, *chart.series, *(str(value) for row in chart.values for value in row)]
    assert sorted(label.text for label in drawing.labels) == sorted(said)
    pixels = np.asarray(drawing.image)
    for label in drawing.labels:
        assert 10 <= label.x <= SIZE - 10 and 10 <= label.y <= SIZE - 10
        x, y = int(label.x), int(label.y)
        assert pixels[max(y - 12, 0) : y + 12, max(x - 24, 0) : x + 24].max(axis=2).min() < 60


def test_no_two_texts_overlap():
    for chart in charts(150):
        for a, b in itertools.combinations(draw(chart).labels, 2):
            assert abs(a.x - b.x) > 40 or abs(a.y - b.y) > 28, (chart, a, b)


def bar_middles(chart: Chart) -> list[tuple[float, int, int]]:
    """Return the column, the value and the number of the colour of each bar."""
    if chart.kind == "bar":
        return [(column(chart, place), value, place) for place, value in enumerate(chart.values[0])]
    apart = SERIES_GAP * PLOT_WIDTH / len(chart.names)
    return [
        (column(chart, place) + (number - 0.5) * apart, value, number)
        for number, row in enumerate(chart.values)
        for place, value in enumerate(row)
    ]


def test_bars_have_their_colours_and_lengths_in_proportion_to_their_values():
    for chart in charts(200):
        if chart.kind not in ("bar", "grouped"):
            continue
        image = draw(chart).image
        bottom = BOTTOM + chart.style.shift[1]
        lengths = []
        for x, _, number in bar_middles(chart):
            colour = chart.style.colours[number]
            assert image.getpixel((round(x), bottom - LEAST)) == colour
            lengths.append(sum(image.getpixel((round(x), y)) == colour for y in range(LEGEND_END, bottom)))
        for length, (_, value, _) in zip(lengths, bar_middles(chart), strict=True):
            assert abs(length - max(lengths) * value / chart.largest) <= LEAST


def test_the_points_of_a_line_and_the_wedges_of_a_pie_have_their_colours():
    for chart in charts(200):
        image = draw(chart).image
        if chart.kind == "line":
            assert chart.style.colours[0] in colours_of(image)
        if chart.kind == "pie":
            pale = {tuple(round((part + 255) / 2) for part in c) for c in chart.style.colours[: len(chart.names)]}
            assert pale <= colours_of(image)


def colours_of(image: Image.Image) -> set[tuple[int, ...]]:
    return {colour for _, colour in image.getcolors(SIZE * SIZE)}


# Questions


def operands(question: Question, chart: Chart) -> tuple[list[str], list[int], list[int], list[int]]:
    """Read from a question's text: names and values of the row it is about, values it names, numbers it gives."""
    words = question.text.rstrip("?").split()
    row = 0
    if chart.series:
        row = next((n for n, series in enumerate(chart.series) if f"{series} bar" in question.text), 0)
    named = []
    for place, word in enumerate(words):
        if word in chart.names:
            series = chart.series.index(words[place - 2]) if chart.series else 0
            named.append(chart.values[series][chart.names.index(word)])
    return list(chart.names), list(chart.values[row]), named, [int(word) for word in words if word.isdigit()]


def expected(question: Question, chart: Chart) -> object:
    """Answer the question by brute force, from its text and the chart alone."""
    names, values, named, numbers = operands(question, chart)
    descending = sorted(values, reverse=True)
    match question.kind:
        case "lookup":
            return named[0]
        case "max_name":
            return next(name for name, value in zip(names, values, strict=True) if value == descending[0])
        case "min_name":
            return next(name for name, value in zip(names, values, strict=True) if value == descending[-1])
        case "max_value":
            return descending[0]
        case "min_value":
            return descending[-1]
        case "sum_two":
            return named[0] + named[1]
        case "sum_all":
            return sum(values)
        case "sum_largest":
            return descending[0] + descending[1]
        case "difference":
            return named[0] - named[1]
        case "range":
            return descending[0] - descending[-1]
        case "mean":
            return sum(values) / len(values)
        case "ratio":
            return named[0] / named[1]
        case "count":
            return len([value for value in values if value > numbers[0]])
        case "compare":
            return named[0] > named[1]
    raise AssertionError(question)


@given(SEEDS)
def test_every_answer_is_what_its_question_asks_and_what_its_program_computes(seed: int):
    chart, questions = asked(seed)
    assert len(questions) >= 10 and len({question.kind for question in questions}) == len(questions)
    for question in questions:
        assert question.answer == answer_text(expected(question, chart))
        assert question.target == question.program
        assert len(question.text.split()) <= 14
        assert run(question.program) == question.answer


def run(program: str) -> str:
    """Run a program that the test trusts, with plain Python."""
    lines = program.split("\n")
    assert all(line.startswith("<comment>#") or line.startswith("<step>") for line in lines)
    for tag in TAGS:
        program = program.replace(tag, "")
    scope: dict[str, object] = {"np": np}
    exec(program, scope)
    answer = scope["Answer"]
    return answer_text(answer.item() if isinstance(answer, np.generic) else answer)


def test_the_largest_and_the_smallest_are_asked_for_by_name_only_where_there_is_one():
    seen = set()
    for seed in range(400):
        chart, questions = asked(seed)
        for question in questions:
            _, values, _, _ = operands(question, chart)
            if question.kind in ("max_name", "min_name"):
                assert values.count(max(values) if question.kind == "max_name" else min(values)) == 1
            seen.add(question.template)
    assert seen == {f"{kind}/{number}" for kind, phrasings in PHRASINGS.items() for number in range(len(phrasings))}


def test_held_out_phrasings_are_never_trained_but_all_their_words_are():
    trained: set[str] = set()
    held_out: set[str] = set()
    for seed in range(600):
        chart, questions = asked(seed)
        for question in questions:
            (held_out if is_held_out(question) else trained).add(without_operands(question, chart))
    assert held_out and not trained & held_out
    assert {word for text in held_out for word in text.split()} <= {word for text in trained for word in text.split()}
    assert sum(len(phrasings) for phrasings in PHRASINGS.values()) == 4 * len(PHRASINGS)
    assert len({text for phrasings in PHRASINGS.values() for text in phrasings}) == 4 * len(PHRASINGS)


def without_operands(question: Question, chart: Chart) -> str:
    own = {*chart.names, *chart.series}
    words = question.text.rstrip("?").split()
    return " ".join("_" if word in own or word.isdigit() else word for word in words)


def test_a_table_has_a_row_for_each_category():
    style = charts(1)[0].style
    plain = Chart("pie", ("Oat", "Elf"), (), ((12, 5),), 20, style)
    grouped = Chart("grouped", ("Oat", "Elf"), ("A", "B"), ((12, 5), (7, 8)), 20, style)
    assert table_question(plain).target == "Oat 12\nElf 5"
    assert table_question(grouped).target == "A B\nOat 12 7\nElf 5 8"
    assert table_question(plain).program == "" and not is_held_out(table_question(plain))


# The tokenizer


def test_the_written_tokenizer_is_the_one_that_training_makes(tokenizer: Tokenizer):
    assert WRITTEN.read_text(encoding="utf-8") == tokenizer.to_str(pretty=False)
    assert WRITTEN.stat().st_size < 30_000


def test_the_vocabulary_holds_the_tags_and_every_name_as_one_token(tokenizer: Tokenizer):
    assert tokenizer.get_vocab_size() == VOCABULARY and tokenizer.token_to_id(TEXT_END) == 0
    assert all(len(tokenizer.encode(text).ids) == 1 for text in (*TAGS, TEXT_END, *NAMES, *(f" {n}" for n in NAMES)))
    assert tokenizer.encode("1024").tokens == ["1", "0", "2", "4"]


@given(SEEDS)
def test_all_that_is_asked_and_written_about_a_chart_decodes_to_itself(tokenizer: Tokenizer, seed: int):
    chart, questions = asked(seed)
    for question in (*questions, table_question(chart)):
        for text in (f"\n{question.text}{AFTER_QUESTION}", question.target):
            assert tokenizer.decode(tokenizer.encode(text).ids) == text


@given(st.text().filter(lambda text: TEXT_END not in text))
def test_any_text_decodes_to_itself(tokenizer: Tokenizer, text: str):
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_prompts_and_programs_are_short(tokenizer: Tokenizer):
    assert len(tokenizer.encode(SYSTEM).ids) < 35
    assert tokenizer.decode(tokenizer.encode(BEFORE_PICTURE).ids) == BEFORE_PICTURE
    programs = [question.program for seed in range(100) for question in asked(seed)[1]]
    assert sum(len(encoded.ids) for encoded in tokenizer.encode_batch(programs)) / len(programs) < 40
