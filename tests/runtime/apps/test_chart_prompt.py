"""The prompt around a question, and questions that cannot be put."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tm_export.runtime.apps.charts.contract import ChartQa
from tm_export.runtime.apps.charts.prompt import TEXT, QuestionError, prompt_of

CONTRACT = ChartQa(
    files={"tokenizer": "host/tokenizer.json"},
    canvas=64,
    visual_tokens=5,
    max_tokens=120,
    prompt_tokens=60,
    chunk=8,
    before_picture="SYSTEM USER: ",
    before_question="\n",
    after_question=" ASSISTANT:",
    program_suffix=" In steps.",
    stop_token=256,
)


def bytes_tokenizer() -> Tokenizer:
    """A token for each byte."""
    tokenizer = Tokenizer(
        models.BPE({token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, [])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def text_around_picture(question: str, *, program: bool) -> tuple[str, str]:
    prompt = prompt_of(question, bytes_tokenizer(), CONTRACT, program=program)
    first = prompt.visual_places.index(0)
    assert prompt.visual_places[first : first + 5] == (0, 1, 2, 3, 4)
    assert set(prompt.visual_places[:first] + prompt.visual_places[first + 5 :]) == {TEXT}
    before, after = (bytes_tokenizer().decode(ids) for ids in (prompt.ids[:first], prompt.ids[first + 5 :]))
    return before, after


def test_the_prompt_is_the_one_that_the_contract_states():
    assert text_around_picture(" Why? ", program=True) == ("SYSTEM USER: ", "\nWhy? In steps. ASSISTANT:")
    assert text_around_picture("Why?", program=False) == ("SYSTEM USER: ", "\nWhy? ASSISTANT:")


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=40))
def test_a_question_is_put_whole_or_refused_with_the_length_that_fits(question):
    asked = question.strip()
    room = 60 - len("SYSTEM USER: ") - 5 - len("\n In steps. ASSISTANT:")
    if not asked:
        with pytest.raises(QuestionError, match="the question is empty"):
            prompt_of(question, bytes_tokenizer(), CONTRACT, program=True)
    elif (taken := len(asked.encode())) > room:
        with pytest.raises(QuestionError, match=f"takes {taken} tokens, and {room} fit"):
            prompt_of(question, bytes_tokenizer(), CONTRACT, program=True)
    else:
        assert text_around_picture(question, program=True)[1] == f"\n{asked} In steps. ASSISTANT:"


@pytest.mark.parametrize(("question", "what"), [("a\0b", "U+0000 at position 1"), ("\ud800", "U+D800 at position 0")])
def test_what_is_no_text_is_refused(question, what):
    with pytest.raises(QuestionError) as caught:
        prompt_of(question, bytes_tokenizer(), CONTRACT, program=False)
    assert what in str(caught.value)
